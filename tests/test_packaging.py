"""What a user installs: the packages listed are those on the disk, and the wheel holds them, its data and no more."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAPPED = ["frontend", "passes", "backends"]
DATA = [
    "dlc/py.typed",
    "dlc/frontend/datasets/digits.npz",
    "dlc/frontend/datasets/digits.txt",
    "dlc/render/fonts/DejaVuSans.ttf",
    "dlc/render/fonts/DejaVuSans-LICENSE.txt",
]

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs a checkout")


def settings():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def packages_on_disk():
    """Every folder with a Python file, under the four that hold the code, by import name."""
    found = set()
    for top in ["dlc", *MAPPED]:
        for file in (ROOT / top).rglob("*.py"):
            parts = file.parent.relative_to(ROOT).parts
            if top == "dlc" and parts[1:2] and parts[1] in MAPPED:
                continue  # the links, followed by some versions of Python
            found.add(".".join(parts if top == "dlc" else ("dlc", *parts)))
    return found


def test_the_packages_listed_are_those_on_disk():
    listed = settings()["packages"]
    assert len(listed) == len(set(listed))
    missing, gone = sorted(packages_on_disk() - set(listed)), sorted(set(listed) - packages_on_disk())
    assert not missing and not gone, f"packages of pyproject.toml: add {missing}, take out {gone}"


def test_every_package_has_an_init_file():
    for name in settings()["packages"]:
        _, *inner = name.split(".")
        folder = ROOT.joinpath(*inner) if inner[:1] and inner[0] in MAPPED else ROOT.joinpath("dlc", *inner)
        assert (folder / "__init__.py").is_file(), f"{folder.relative_to(ROOT)} has no __init__.py"


@pytest.mark.parametrize("name", MAPPED)
def test_the_top_level_folders_are_linked_into_the_package(name):
    link = ROOT / "dlc" / name
    if not link.is_symlink():
        pytest.skip("a checkout without symbolic links; dlc/__init__.py finds the folders instead")
    assert link.readlink() == Path("..", name)


def copy_of_the_sources(target, links=True):
    """The files a build reads, copied, so that it leaves nothing behind in the checkout."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", *([] if links else MAPPED))
    shutil.copytree(ROOT / "dlc", target / "dlc", symlinks=True, ignore=ignore)
    for name in MAPPED:
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    for name in ["pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, target / name)


@pytest.mark.slow
def test_the_wheel_holds_dlc_and_its_data_and_no_other_top_level_name(tmp_path):
    pytest.importorskip("setuptools", minversion="77")  # the [test] extra brings it; nothing is fetched here
    source, built = tmp_path / "source", tmp_path / "built"
    source.mkdir()
    copy_of_the_sources(source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-w", str(built), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert all(archive.read(name) for name in DATA if not name.endswith("py.typed"))
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"dlc"} and len(tops) == 2
    assert set(DATA) <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    modules = {str(Path(name).parent).replace("/", ".") for name in names if name.endswith(".py")}
    assert modules == packages_on_disk()


def imported_by(statement, folder):
    """The names of the modules that a fresh process has imported after `statement`, run in `folder`."""
    code = f"{statement}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_dlc_leaves_the_heavy_packages_alone():
    heavy = {"numba", "llvmlite", "networkx", "graphviz", "pygraphviz", "safetensors", "tqdm"}
    assert not imported_by("import dlc", ROOT) & heavy


def test_a_checkout_without_links_finds_its_folders(tmp_path):
    copy_of_the_sources(tmp_path, links=False)
    assert not any((tmp_path / "dlc" / name).exists() for name in MAPPED)
    # `python -c` puts the folder it runs in first on the path, before an installed dlc.
    code = "import dlc, dlc.frontend, dlc.passes, dlc.backends; print(dlc.frontend.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "frontend" / "__init__.py"
