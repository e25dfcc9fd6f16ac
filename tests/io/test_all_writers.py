"""Every call of the package that writes a file is inside a staged write, or is listed here with its reason."""

import ast
from pathlib import Path

import pytest

import nnunet_stochastic
from nnunet_stochastic import discovery

PACKAGE = Path(nnunet_stochastic.__file__).parent
STAGED = {"staged_file", "staged_files", "staged_folder"}
#: Calls that write or move files, by the last part of their name.
WRITERS = {
    *("write_text", "write_bytes", "WriteImage", "imwrite", "imsave", "savez", "savez_compressed", "savefig"),
    *("save_json", "save_pickle", "write_pickle", "save_seg", "write_seg", "to_csv", "tofile"),
    *(
        "copyfile",
        "copy2",
        "copy",
        "copytree",
        "move",
        "rename",
        "symlink_to",
        "dump",
        "save",
        "write_map",
        "write_labels",
    ),
}
#: Those of them that are something else where their owner is this.
OWNERS = {
    "replace": {"os"},
    "save": {"torch", "nibabel", "np"},
    "dump": {"json", "pickle"},
    **{name: {"shutil"} for name in ("copy", "copy2", "copyfile", "copytree", "move")},
}
#: (file, call): why it may be there.
ALLOWED = {
    ("commands/_streams.py", "open"): "os.devnull, in the place of a closed stream",
    ("evaluation/confidence.py", "write_map"): "_write_map, which ConfidenceFolder.write calls staged",
    (
        "evaluation/confidence.py",
        "np.savez_compressed",
    ): "_write_temperature, which ConfidenceFolder.write calls staged",
    ("evaluation/confidence.py", "shutil.copyfile"): "_write_temperature, which ConfidenceFolder.write calls staged",
    ("datasets/corruptions/stored_image.py", "nibabel.save"): "StoredImage.write, which folder.py calls staged",
    ("datasets/corruptions/stored_image.py", "sitk.WriteImage"): "StoredImage.write, which folder.py calls staged",
    ("datasets/corruptions/stored_image.py", "io.imsave"): "StoredImage.write, which folder.py calls staged",
    ("datasets/corruptions/stored_image.py", "tifffile.imwrite"): "StoredImage.write, which folder.py calls staged",
    ("datasets/conversion/common.py", "sitk.WriteImage"): "_write_image, which _write_case calls staged",
    ("dicom/volume.py", "sitk.WriteImage"): "write_volume, which a case's image calls in a temporary folder",
    ("datasets/demo.py", "sitk.WriteImage"): "_write_case, which write_demo_dataset calls in its staged folder",
    ("inference/images.py", "nibabel.save"): "write_map, whose callers stage",
    ("inference/images.py", "sitk.WriteImage"): "write_map, whose callers stage",
    ("inference/images.py", "tifffile.imwrite"): "write_map, whose callers stage",
    ("inference/images.py", "save_json"): "write_map, whose callers stage",
    ("inference/pipeline.py", "write_map"): "into the hidden folder that OutputFolder publishes",
    ("inference/images.py", "reader_writer().write_seg"): "write_labels, whose callers stage",
    ("inference/pipeline.py", "write_labels"): "into the hidden folder that OutputFolder publishes",
    ("inference/pipeline.py", "np.savez_compressed"): "into the hidden folder that OutputFolder publishes",
    ("inference/pipeline.py", "save_pickle"): "into the hidden folder that OutputFolder publishes",
    ("inference/weight_cache.py", "path.open"): "a temporary file of this process",
    ("inference/weight_cache.py", "folder.rename"): "a temporary folder of this process, once it is locked",
    ("report/page/embedding.py", "figure.savefig"): "into memory",
    ("study/validation_images.py", "link.symlink_to"): "_link, which link_validation_images calls in its staged folder",
    ("study/validation_images.py", "shutil.copyfile"): "_link, which link_validation_images calls in its staged folder",
}


def calls_of(tree: ast.AST, *, staged: bool = False):
    """Each call with its dotted name, and whether it is inside the block of a staged write."""
    for node in ast.iter_child_nodes(tree):
        inside = staged
        if isinstance(node, ast.With):
            opened = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
            inside = staged or any(ast.unparse(call.func) in STAGED for call in opened)
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func), staged
        yield from calls_of(node, staged=inside)


def writes(call: ast.Call, name: str) -> bool:
    owner, _, last = name.rpartition(".")
    if last == "open" or name == "open":
        modes = [*call.args[:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        return any(isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wax+") for mode in modes)
    if last in OWNERS:
        return owner in OWNERS[last]
    if last == "to_csv":
        return bool(call.args)
    if last == "rename":  # not the one of pandas
        return bool(call.args) and not isinstance(call.args[0], ast.Constant)
    return last in WRITERS and name != "write_text"  # io's own


def found_in(source: str) -> set[str]:
    return {name for call, name, staged in calls_of(ast.parse(source)) if writes(call, name) and not staged}


def unstaged() -> set[tuple[str, str]]:
    found = set()
    for folder in (PACKAGE, Path(discovery.trainers_folder())):
        for path in folder.rglob("*.py"):
            name = path.relative_to(folder).as_posix()
            if not name.startswith("io/"):
                found |= {(name, call) for call in found_in(path.read_text(encoding="utf-8"))}
    return found


def test_every_writer_is_staged_or_has_a_reason():
    logs = {(file, "log.open") for file in ("study/run_job.py", "study/engine.py", "commands/_steps.py")}
    assert unstaged() - logs == ALLOWED.keys()  # a log is read while it grows


@pytest.mark.parametrize(
    "source",
    [
        "open(path, 'w')",
        "path.open(mode='a')",
        "path.write_text(text)",
        "np.savez(path, a=a)",
        "torch.save(a, path)",
        "os.replace(a, b)",
        "with open(path, 'wb') as file:\n    file.write(b'')",
        "with staged_file(path) as staged:\n    pass\nsitk.WriteImage(image, path)",
    ],
)
def test_a_writer_is_recognised(source):
    assert found_in(source)


@pytest.mark.parametrize(
    "source",
    [
        "open(path)",
        "gzip.open(path, 'rb')",
        "text.replace('a', 'b')",
        "write_text(path, table.to_csv(index=False))",
        "self.save(checkpoint)",
        "with staged_file(path) as staged, staged.open('w') as stream:\n    stream.write('')",
        "with staged_file(path) as staged:\n    torch.save(a, staged)",
    ],
)
def test_what_is_none_or_is_staged_passes(source):
    assert not found_in(source)
