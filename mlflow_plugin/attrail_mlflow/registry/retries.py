"""How long MLflow is waited for while it is away: a minute without it costs an audit that minute, and nothing computed.

What is asked again this way must do no harm when it is done twice.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from attrail_explainers.errors import RegistryError

WAITS = (1.0, 5.0, 20.0, 60.0)  # seconds before each new attempt: a restart takes the first ones, an outage the last

Answer = TypeVar("Answer")

logger = logging.getLogger("attrail.registry")


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What ``ask`` returns, asked again as long as it raises a transient RegistryError and there is a wait left.

    The last one is raised as one that is not transient: it was waited for already.
    """
    for seconds in WAITS:
        try:
            return ask()
        except RegistryError as error:
            if not error.transient:
                raise
            logger.warning("%s; tried again in %.0f s", error, seconds)
        time.sleep(seconds)
    try:
        return ask()
    except RegistryError as error:
        raise RegistryError(f"{error}; it was tried {len(WAITS) + 1} times") from error
