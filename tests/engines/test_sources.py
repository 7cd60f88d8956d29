from __future__ import annotations

import threading

import pytest
from flwr.clientapp import ClientApp

from fedunlearn.engines.answering import load_client_app
from fedunlearn.engines.sources import described, importable_name, rebuilt
from fedunlearn.errors import SettingsError


def test_an_importable_function_goes_by_its_name(client_module):
    build = client_module("from flwr.clientapp import ClientApp\n\ndef build():\n    return ClientApp()\n").build
    name = importable_name(build)
    assert name == f"{build.__module__}:build"
    assert described(build) == {"name": name}
    assert rebuilt(described(build)) is build


def test_what_has_no_name_elsewhere_goes_by_value(build_app, client_module, monkeypatch):
    module = client_module("from flwr.clientapp import ClientApp\n\ndef build():\n    return ClientApp()\n")
    original = module.build
    # What a test puts in its place is not what the module's file says.
    monkeypatch.setattr(module, "build", lambda: original())
    app = build_app()
    for source in (app, lambda: build_app(), original, module.build):
        assert importable_name(source) is None
        description = described(source)
        assert set(description) == {"copy"}
        assert isinstance(load_client_app(rebuilt(description)), ClientApp)


def test_a_function_of_a_script_has_no_name(monkeypatch):
    def build():
        return ClientApp()

    build.__module__, build.__qualname__ = "__main__", "build"
    assert importable_name(build) is None


def test_what_cannot_be_copied_is_refused_in_one_sentence(build_app):
    lock = threading.Lock()
    with pytest.raises(SettingsError, match=r"cannot be copied into worker processes \(TypeError: .*workers=0"):
        described(build_app(lambda *_: lock.acquire()))
