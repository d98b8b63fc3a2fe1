"""Great Expectations' own Data Docs of an audit's validations, an option for those who use them already."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)

from attrail_monitoring.expectations.rule_tables import read_suite
from attrail_monitoring.expectations.validation import Validation, ephemeral_context

SITE = "attrail"


def build_data_docs(validations: Sequence[Validation], folder: Path, time: datetime) -> Path:
    """Write the Data Docs site of validations below ``folder`` and return its index.html.

    Their pages load style sheets, scripts and a logo from other hosts whenever they are opened, which tells those hosts
    who reads them; ``attrail_monitoring.expectations.page`` is our own page, which loads nothing.
    ``time`` is the audit's.
    """
    run = RunIdentifier(run_name=SITE, run_time=time)
    with ephemeral_context() as context:
        context.add_data_docs_site(SITE, _site(folder))
        for each in validations:
            suite = context.suites.add(read_suite(each.suite))
            result = expectationSuiteValidationResultSchema.load(each.result)
            result.meta["run_id"] = run
            key = ValidationResultIdentifier(
                expectation_suite_identifier=ExpectationSuiteIdentifier(name=suite.name),
                run_id=run,
                batch_identifier=each.name,
            )
            context.validation_results_store.set(key, result)
        context.build_data_docs(site_names=[SITE])
    return folder / "index.html"


def _site(folder: Path) -> Any:
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
    }
