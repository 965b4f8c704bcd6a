import json
import sys
from pathlib import Path

import pytest

from featmesh.apps import doctor
from featmesh.apps.doctor import Check, doctor_json, doctor_text, examine, is_sound


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_this_installation_is_sound() -> None:
    checks = examine()
    assert is_sound(checks), doctor_text(checks)
    for name in ("python", "torch", "numba", "kernels"):
        assert named(checks, name).ok
    assert "torch" in named(checks, "threads").told
    json.dumps(doctor_json(checks), allow_nan=False)


@pytest.mark.parametrize("error", ["RuntimeError", "ImportError", "OSError"])
def test_a_half_broken_torchvision_is_told_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(f'raise {error}("operator torchvision::nms is missing")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    checks = list(doctor._packages())
    broken = named(checks, "torchvision")
    assert not broken.ok and not broken.core and is_sound(checks)
    assert error in broken.told and "pip uninstall torchvision" in broken.fix


def test_a_broken_core_package_is_no_sound_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CORE", ("no_such_package_of_featmesh",))
    checks = list(doctor._packages())
    assert not is_sound(checks)
    text = doctor_text(checks)
    assert "FAIL  no_such_package_of_featmesh" in text
    assert "pip install --force-reinstall" in text and "cannot work" in text


def test_a_kernel_that_does_not_compile_is_told(fake_module) -> None:
    def coverage(*_: object) -> None:
        raise RuntimeError("no compiler")

    fake_module("featmesh.render.kernels", coverage=coverage)
    (check,) = doctor._kernel()
    assert not check.ok and "no compiler" in check.told


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "below"))
    (check,) = doctor._cache()
    assert not check.ok and not check.core and "NUMBA_CACHE_DIR" in check.fix


def test_a_model_whose_file_was_changed_is_told(tmp_path: Path, fake_module) -> None:
    def read_model(folder: Path) -> None:
        raise ValueError("E_CKPT_HASH: expected another hash")

    fake_module(
        "featmesh.model.checkpoint",
        bundled_models=lambda: {"car": tmp_path},
        read_model=read_model,
    )
    (check,) = doctor._models()
    assert (check.name, check.ok, check.core) == ("model car", False, True)
    assert "E_CKPT_HASH" in check.told
