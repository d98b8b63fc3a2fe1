"""An exported program's archive: what torch writes is loaded, anything beside it is refused before torch sees it."""

import collections
import io
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.model_files.export_archive import PROGRAM, SAMPLES, archived_state, copy_checked
from attrail_explainers.model_files.size_expression import is_size

Members = dict[str, bytes]
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class Net(nn.Module):
    """Sizes that are worked out, graphs inside the graph, odd names, a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"a-b": nn.Conv2d(3, 4, 3), "1x1": nn.Conv2d(4, 4, 1)})
        self.head = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            images = images * torch.tensor([2.0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            images = self.parts["a-b"](images)
        found = self.parts["1x1"](images.float())
        batch, channels, height, width = found.shape
        return self.head(found.reshape(batch * 2, channels // 2, height * width).reshape(batch, channels, -1).mean(-1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("export") / "model.pt2"
    dynamic = ({0: torch.export.Dim.AUTO},)
    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=dynamic), path)
    return path


def members_of(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def written(
    path: Path,
    members: Members,
    more: Callable[[zipfile.ZipFile], object] = lambda archive: None,
    root: str = "model",
) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{root}/{name}", content)
        more(archive)
    return path


def refused(path: Path) -> str:
    with pytest.raises(UnsupportedModelError) as error:
        classifier_from_export(path, "digits", "1")
    assert "\n" not in str(error.value)
    assert "model digits/1" in str(error.value)
    return str(error.value)


def changed(members: Members, name: str, change: Callable[[Any], object]) -> Members:
    """The members with a change made to the JSON of one of them."""
    document = json.loads(members[name])
    change(document)
    return members | {name: json.dumps(document).encode()}


def test_what_torch_exports_answers_as_torch_has_it(exported: Path) -> None:
    classifier = classifier_from_export(exported, "digits", "1")
    images = torch.randn(5, 3, 8, 8)
    expected = torch.export.load(exported).module()(images)
    assert classifier.graph is not None
    assert torch.equal(classifier.graph(images), expected)
    assert torch.equal(classifier.module(images), expected)
    assert classifier.batch_size is None


def test_the_copy_has_the_same_members_and_no_pickle(exported: Path, tmp_path: Path) -> None:
    assert copy_checked(exported, tmp_path / "copy.pt2", "digits/1") == torch.__version__
    before, after = members_of(exported), members_of(tmp_path / "copy.pt2")
    assert len(before[SAMPLES]) > 0
    assert after == before | {SAMPLES: b""}


def saved(path: Path, seed: int, change: Callable[[nn.Module], object] = lambda net: None) -> Path:
    torch.manual_seed(seed)
    net = Net().eval()
    change(net)
    torch.export.save(torch.export.export(net, (torch.zeros(2, 3, 8, 8),)), path)
    return path


def test_an_archives_state_is_that_of_the_module_and_nothing_is_loaded_for_it(exported: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "model.pt2", members_of(exported) | {SAMPLES: pickle.dumps(Telltale())})
    before = Telltale.made
    found = archived_state(path, "digits/1")
    assert Telltale.made == before
    sizes = {name: tuple(tensor.shape) for name, tensor in Net().state_dict().items()}
    assert {name: shape for name, (_, shape) in found.tensors.items()} == sizes


def test_archives_of_equal_weights_have_one_digest_and_others_another(tmp_path: Path) -> None:
    """The archives' bytes differ in any case; which parameters were trained does not matter."""
    frozen = saved(tmp_path / "frozen.pt2", 0, lambda net: net.head.weight.requires_grad_(False))
    one, same, other = (
        archived_state(each, "digits/1")
        for each in (saved(tmp_path / "one.pt2", 0), frozen, saved(tmp_path / "other.pt2", 1))
    )
    assert one == same
    assert one.tensors == other.tensors
    assert one.digest != other.digest
    halved = archived_state(saved(tmp_path / "half.pt2", 0, lambda net: net.head.double()), "digits/1")
    assert halved.tensors != one.tensors


@pytest.mark.parametrize("sizes", [None, 4, "4", [4], [[4]], {}])
def test_a_tensor_whose_size_is_not_said_has_no_state(exported: Path, tmp_path: Path, sizes: object) -> None:
    members = members_of(exported)
    edited = changed(members, WEIGHTS, lambda found: found["config"]["head.bias"]["tensor_meta"].update(sizes=sizes))
    with pytest.raises(UnsupportedModelError, match=r"does not say how large 'head\.bias' is"):
        archived_state(written(tmp_path / "model.pt2", edited), "digits/1")


class Telltale:
    """A harmless object that says when it is unpickled."""

    made = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _tell, ()


def _tell() -> "Telltale":
    Telltale.made += 1
    return Telltale()


def test_sample_inputs_are_never_unpickled(exported: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "model.pt2", members_of(exported) | {SAMPLES: pickle.dumps(Telltale())})
    before = Telltale.made
    pickle.loads(members_of(path)[SAMPLES])
    assert Telltale.made == before + 1  # so it tells
    classifier_from_export(path, "digits", "1")
    assert Telltale.made == before + 1


@pytest.mark.parametrize(
    "name",
    [
        "data/aotinductor/model/model.so",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/weights/model.pt",
        "data/weights/WEIGHT_0",
        "data/weights/weight_00",
        "data/weights/./weight_0",
        "data//weights/weight_0",
        "data\\weights\\weight_0",
        "data/weights/weight_\uff10",
        "../weight_0",
        "models/other.json",
        "models/Model.json",
        "extra/module_info.json",
        "data/",
    ],
)
def test_other_members_are_refused_by_name(exported: Path, tmp_path: Path, name: str) -> None:
    more = {name: pickle.dumps(collections.OrderedDict())}
    assert repr(name) in refused(written(tmp_path / "model.pt2", members_of(exported) | more))


@pytest.mark.parametrize("name", ["data/weights/weight_0", "other/data/weights/weight_0", "/weight_0", "../weight_0"])
def test_members_outside_the_folder_are_refused(exported: Path, tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "model.pt2", members_of(exported), lambda archive: archive.writestr(name, b"x"))
    assert repr(name) in refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(exported: Path, tmp_path: Path) -> None:
    path = written(
        tmp_path / "model.pt2",
        members_of(exported),
        lambda archive: archive.writestr("model/data/weights/weight_0", b"other"),
    )
    assert "'data/weights/weight_0' 2 times" in refused(path)


@pytest.mark.parametrize("digit", ["\N{ARABIC-INDIC DIGIT ONE}", "\N{FULLWIDTH DIGIT ONE}", "01", "1_", "1 "])
def test_a_member_has_the_one_name_that_torch_gives_it(exported: Path, tmp_path: Path, digit: str) -> None:
    members = members_of(exported)
    members[f"data/weights/weight_{digit}"] = members.pop("data/weights/weight_1")
    members[WEIGHTS] = members[WEIGHTS].replace(b'"weight_1"', json.dumps(f"weight_{digit}").encode())
    assert f"{f'data/weights/weight_{digit}'!r}" in refused(written(tmp_path / "model.pt2", members))


@pytest.mark.parametrize("root", ["..", ".", "", "a\\b", "c:", "a\nb"])
def test_the_folder_of_all_members_has_a_plain_name(exported: Path, tmp_path: Path, root: str) -> None:
    assert "which is no name of one" in refused(written(tmp_path / "model.pt2", members_of(exported), root=root))
    classifier_from_export(written(tmp_path / "good.pt2", members_of(exported), root="my model.v2"), "digits", "1")


@pytest.mark.parametrize("name", ["archive_format", "archive_version", PROGRAM, WEIGHTS, CONSTANTS, ".data/version"])
def test_a_missing_member_is_named(exported: Path, tmp_path: Path, name: str) -> None:
    members = members_of(exported)
    del members[name]
    assert f"lacks the member {name!r}" in refused(written(tmp_path / "model.pt2", members))


def test_weights_without_their_member_and_members_without_their_weights(exported: Path, tmp_path: Path) -> None:
    members = members_of(exported)
    lost = {name: content for name, content in members.items() if name != "data/weights/weight_0"}
    assert "'data/weights/weight_0'" in refused(written(tmp_path / "model.pt2", lost))
    spare = members | {"data/weights/weight_99": b"\0\0\0\0"}
    assert "'data/weights/weight_99'" in refused(written(tmp_path / "model.pt2", spare))


@pytest.mark.parametrize("length", [0, 10, 2000, -10])
def test_a_cut_archive_is_damaged_and_no_pickle(exported: Path, tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(exported.read_bytes()[:length])
    said = refused(path)
    assert "damaged" in said
    assert "pickle" not in said


@pytest.mark.parametrize("where", ["before", "after"])
def test_bytes_around_an_archive_are_left_behind(exported: Path, tmp_path: Path, where: str) -> None:
    """Readers of archives differ in what they skip: torch gets the checked members, nothing around them."""
    more = b"PK\3\4 and more" * 40
    path = tmp_path / "model.pt2"
    path.write_bytes(more + exported.read_bytes() if where == "before" else exported.read_bytes() + more)
    copy_checked(path, tmp_path / "copy.pt2", "digits/1")
    assert members_of(tmp_path / "copy.pt2") == members_of(exported) | {SAMPLES: b""}
    assert more not in (tmp_path / "copy.pt2").read_bytes()


@pytest.mark.parametrize("size", [2**20, 2**31, 2**32 - 2])
def test_a_claim_of_more_bytes_than_there_are_is_refused_before_any_is_read(
    exported: Path, tmp_path: Path, size: int
) -> None:
    path = written(tmp_path / "model.pt2", members_of(exported))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"model/data/weights/weight_0") - 46  # in the directory at the end: APPNOTE.TXT 4.3.12
    content[entry + 20 : entry + 28] = struct.pack("<LL", size, size)
    path.write_bytes(content)
    assert "claims more bytes for 'model/data/weights/weight_0'" in refused(path)


@pytest.mark.parametrize("name", ["model/", "model/data/", "model/data/weights/", "elsewhere/"])
def test_entries_for_folders_are_refused(exported: Path, tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "model.pt2", members_of(exported), lambda archive: archive.writestr(name, b""))
    refused(path)


@pytest.mark.parametrize("member", [PROGRAM, WEIGHTS, "archive_format", SAMPLES])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_member_is_there_twice(exported: Path, tmp_path: Path, member: str) -> None:
    content = members_of(exported)[member]
    path = written(
        tmp_path / "model.pt2", members_of(exported), lambda archive: archive.writestr(f"model/{member}", content)
    )
    assert f"{member!r} 2 times" in refused(path)


def test_a_changed_byte_is_noticed(exported: Path, tmp_path: Path) -> None:
    content = members_of(exported)["data/weights/weight_0"]
    whole = bytearray(exported.read_bytes())
    whole[whole.index(content) + 3] ^= 1
    path = tmp_path / "model.pt2"
    path.write_bytes(whole)
    assert "damaged" in refused(path)


def test_a_compressed_archive_is_refused(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members_of(exported).items():
            archive.writestr(f"model/{name}", content)
    assert "compressed" in refused(path)


def test_a_module_that_was_saved_otherwise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    torch.save(Net().state_dict(), path)
    assert "data.pkl" in refused(path)
    buffer = io.BytesIO()
    pickle.dump(collections.OrderedDict(), buffer)
    path.write_bytes(buffer.getvalue())
    assert "damaged, or none that torch.export.save wrote" in refused(path)


def test_pickled_weights_are_refused(exported: Path, tmp_path: Path) -> None:
    def pickled(document: Any) -> None:
        document["config"]["head.bias"]["use_pickle"] = True

    said = refused(written(tmp_path / "model.pt2", changed(members_of(exported), WEIGHTS, pickled)))
    assert "'head.bias' as a pickle" in said


@pytest.mark.parametrize("name", [WEIGHTS, CONSTANTS, PROGRAM])
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"config": {"a": 1}}'])
def test_what_is_no_json_table_is_refused(exported: Path, tmp_path: Path, name: str, content: bytes) -> None:
    refused(written(tmp_path / "model.pt2", members_of(exported) | {name: content}))


def node_of(document: Any, number: int = 0) -> Any:
    return document["graph_module"]["graph"]["nodes"][number]


def call_of(document: Any) -> Any:
    return document["graph_module"]["module_call_graph"][0]["signature"]


def tree(kind: str, context: object) -> str:
    return json.dumps([1, {"type": kind, "context": json.dumps(context), "children_spec": []}])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda program: node_of(program).update(target="torch.ops.mine.double.default"), "operator"),
        (lambda program: node_of(program).update(target="torch.ops.aten.from_file.default"), "operator"),
        (lambda program: node_of(program).update(target="torch.compiler.reset"), "operator"),
        (lambda program: node_of(program).update(target="_operator.attrgetter"), "operator"),
        (lambda program: node_of(program).update(target="#extension.op"), "operator"),
        (lambda program: node_of(program).update(name="a b"), "no name"),
        (lambda program: node_of(program).update(name="a\nb"), "no name"),
        (lambda program: call_of(program).update(forward_arg_names=["a=1"]), "no name"),
        (lambda program: call_of(program).update(out_spec=tree("somebody.Out", None)), "returns 'somebody.Out'"),
        (lambda program: call_of(program).update(in_spec=tree("somebody.In", None)), "takes 'somebody.In'"),
        (lambda program: call_of(program).update(out_spec=tree("collections.defaultdict", [])), "defaultdict"),
        (lambda program: call_of(program).update(out_spec=tree("builtins.dict", {"__enum__": 1})), "plain keys"),
        (lambda program: call_of(program).update(in_spec=tree("builtins.dict", ["a b"])), "no name"),
        (lambda program: call_of(program).update(in_spec="[2, {}]"), "as torch does"),
        (lambda program: call_of(program).update(in_spec="{"), "no JSON"),
        (lambda program: program["range_constraints"].update({"s 1": {"min_val": 2, "max_val": None}}), "size"),
        (lambda program: program["graph_module"]["graph"].update(custom_obj_values={"a": {}}), "object"),
        (lambda program: program["graph_module"]["module_call_graph"].append({"fqn": 'a"b'}), "submodule"),
    ],
)
def test_programs_say_nothing_but_a_program(
    exported: Path, tmp_path: Path, change: Callable[[Any], object], said: str
) -> None:
    assert said in refused(written(tmp_path / "model.pt2", changed(members_of(exported), PROGRAM, change)))


def test_an_export_of_another_torch_says_which(exported: Path, tmp_path: Path) -> None:
    def older(program: Any) -> None:
        program.update(torch_version="2.9.0", schema_version={"major": 7, "minor": 1})

    said = refused(written(tmp_path / "model.pt2", changed(members_of(exported), PROGRAM, older)))
    assert f"was exported by torch 2.9.0, this is {torch.__version__}" in said


def test_an_export_of_an_old_layout_says_so(tmp_path: Path) -> None:
    members = {"serialized_exported_program.json": b"{}", "serialized_state_dict.pt": b"x", "version": b"2"}
    assert "torch 2.6 or older" in refused(written(tmp_path / "model.pt2", members))


def test_a_program_that_torch_cannot_read_gives_its_reason(exported: Path, tmp_path: Path) -> None:
    def lost(program: Any) -> None:
        del program["graph_module"]["signature"]

    said = refused(written(tmp_path / "model.pt2", changed(members_of(exported), PROGRAM, lost)))
    assert f"cannot be read by torch {torch.__version__}" in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda program: node_of(program, -1).update(target="torch.ops.aten.nowhere.default"),
            r"failed to resolve torch\.ops\.aten\.nowhere\.default to an operator",
        ),
        (
            lambda program: program.update(schema_version={"major": 99, "minor": 1}),
            r"schema version .*major=99.* match",
        ),
        (lambda program: node_of(program, -1).update(inputs=[]), "KeyError"),
    ],
    ids=["operator", "schema", "arguments"],
)
def test_what_torch_only_warns_of_is_the_reason(
    exported: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[Any], object], reason: str
) -> None:
    said = refused(written(tmp_path / "model.pt2", changed(members_of(exported), PROGRAM, change)))
    assert re.search(reason, said)
    assert "warnings above" not in said
    assert not caplog.records


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1), value=st.integers(0, 255))
def test_a_byte_that_changed_anywhere_is_noticed_or_means_nothing(exported: Path, place: float, value: int) -> None:
    content = bytearray(exported.read_bytes())
    content[int(place * (len(content) - 1))] = value
    path = exported.with_name("changed.pt2")
    path.write_bytes(content)
    try:
        copy_checked(path, exported.with_name("copy.pt2"), "digits/1")
    except UnsupportedModelError:
        return
    after = members_of(exported.with_name("copy.pt2"))
    assert after == members_of(exported) | {SAMPLES: b""}


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Mul(Integer(196), Symbol('s77', positive=True, integer=True))",
        "s0*2 + 1",
        "Max(1, s0)//2",
        "Pow(Symbol('s0', integer=True), Integer(2))",
        "Mul(Rational(1, 2), Float('0.5', precision=53))",
        "FloorDiv(Add(Symbol('u0', integer=True), Integer(-1)), Integer(2))",
    ],
)
def test_sizes(text: str) -> None:
    assert is_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "print(1)",
        "s0.name",
        "s0[0]",
        "lambda: 1",
        "'a'",
        "Symbol('a b')",
        "Symbol(name='s0', **{})",
        "9**9**9**9",
        "9**(9*9*9)",
        "Pow(9, Pow(9, 9))",
        "(" * 500 + "1" + ")" * 500,
        "1+" * 2000 + "1",
        "",
        "s0 if s0 else 1",
        "[s0 for s0 in s1]",
    ],
)
def test_other_expressions_are_no_sizes(text: str) -> None:
    assert not is_size(text)


class Counts(nn.Module):
    """Takes whole numbers that are no pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean(dim=(2, 3))


def test_programs_for_other_whole_numbers_are_refused_with_what_to_log(tmp_path: Path) -> None:
    """Also where no signature said so before; torch's own words name a key that does not exist."""
    torch.export.save(torch.export.export(Counts(), (torch.zeros(2, 3, 8, 8, dtype=torch.int64),)), tmp_path / "n.pt2")
    with pytest.raises(UnsupportedModelError, match=r"n/1 was logged for int64 images, .*: log it with an example of"):
        classifier_from_export(tmp_path / "n.pt2", "n", "1")
