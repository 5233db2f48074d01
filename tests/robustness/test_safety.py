"""No pickle, no remote code, no shell, no archive unpacked, no listening beyond this machine: read off the code itself.

Nothing in this repository unpacks an archive: a TorchScript file's table of contents is read, and that is all.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted([*(ROOT / "interp_lib").rglob("*.py"), *(ROOT / ".ci").glob("*.py")])
CALLS = {  # what is called, by its last name, and why not
    **dict.fromkeys(("extractall", "unpack_archive", "extract"), "unpacks an archive, which may write anywhere"),
    **dict.fromkeys(("system", "popen"), "runs a shell"),
    **dict.fromkeys(("mktemp", "load_pickle", "Unpickler", "loads_pickle"), "is not safe"),
}
BUILTINS = ("eval", "exec", "compile", "__import__")
MODULES = {
    "pickle": {"UnpicklingError"},
    "dill": set(),
    "joblib": {"Parallel", "delayed", "parallel_config"},  # its load and dump are pickle
    "shelve": set(),
    "marshal": set(),
    "yaml": set(),
}
WEIGHTS = "bench/baselines/pretrained.py"  # the user's own TorchScript files, on request


def faults(source: str, name: str = "a.py") -> list[str]:
    """What a piece of code does that it may not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            found.append(f"imports from {node.module}")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in MODULES:
            if node.attr not in MODULES[node.value.id]:
                found.append(f"uses {node.value.id}.{node.attr}")
        if isinstance(node, ast.Call):
            found += call_faults(node, name)
        if isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "::"):
            found.append("listens to other machines")
    return found


def call_faults(node: ast.Call, name: str) -> list[str]:
    called = ast.unparse(node.func)
    last, keywords = called.rpartition(".")[2], {k.arg: ast.unparse(k.value) for k in node.keywords}
    found = [f"{called} {CALLS[last]}"] if last in CALLS else []
    found += [f"{called} runs text as code"] if called in BUILTINS else []
    if called == "torch.load" and keywords.get("weights_only") != "True":
        found.append("torch.load without weights_only=True")
    if called == "torch.jit.load" and not name.endswith(WEIGHTS):
        found.append("torch.jit.load of a file that is not the user's own")
    wanted = {"trust_remote_code": "False", "allow_pickle": "False", "shell": "False", "use_safetensors": "True"}
    found += [f"{called}({k}={keywords[k]})" for k, value in wanted.items() if k in keywords and keywords[k] != value]
    if last == "from_pretrained" and not {"local_files_only", "use_safetensors"} & set(keywords):
        found.append(f"{called} may load a pickle")
    return found


def test_the_check_sees_what_it_is_for():
    loads = ["torch.load(path)", "torch.load(path, weights_only=False)", "torch.jit.load(path)"]
    loads += ["import pickle\npickle.load(f)", "from pickle import loads"]
    loads += ["np.load(path, allow_pickle=True)", "Model.from_pretrained(path)"]
    runs = ["eval(text)", "archive.extractall(folder)", "subprocess.run(text, shell=True)", "os.system(text)"]
    assert all(faults(source) for source in [*loads, *runs, "serve(ip='0.0.0.0')"])


def test_the_library_is_without_faults():
    found = {str(path): faults(path.read_text(encoding="utf-8"), path.as_posix()) for path in CODE}
    assert len(CODE) > 50 and not {path: said for path, said in found.items() if said}


def test_what_make_starts_listens_to_this_machine_alone():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "jupyter lab" in text
    assert set(re.findall(r"(?:--ip|[._]ip)[= ](\S+)", text)) <= {"127.0.0.1"} and "0.0.0.0" not in text


def test_models_and_deltas_in_the_repository_are_safetensors():
    kept = [path for path in (ROOT / "data").rglob("*") if path.suffix in (".bin", ".ckpt", ".pt", ".pth", ".pkl")]
    assert not kept and list((ROOT / "data").rglob("*.safetensors"))
