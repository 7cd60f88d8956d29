"""Tasks by name: what is learned, on which data."""

from __future__ import annotations

from importlib import import_module

from fedunlearn.data.sources.image_folder import PREFIX, image_mode
from fedunlearn.errors import SettingsError
from fedunlearn.registry import Registry
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.tasks.degradations import degradations
from fedunlearn.tasks.image_to_image import ImageToImage, image_to_image, names_image_to_image

__all__ = ["ClassificationTask", "ImageToImage", "Task", "get_task", "tasks"]

SMALL = ("lenet", "groupnorm-cnn", "resnet20", "vit-small")
LARGE = (*SMALL, "resnet18", "vgg11", "vit", "vit-medium", "vit-b-16")

tasks: Registry[Task] = Registry("task", group="fedunlearn.tasks")

for _name in ("mnist5k", "digits", "fashion-mnist"):
    tasks.register(_name, ClassificationTask(_name, _name, SMALL, "lenet"))
for _name in ("cifar10", "cifar100", "svhn"):
    tasks.register(_name, ClassificationTask(_name, _name, LARGE, "groupnorm-cnn"))
tasks.register("breast-cancer", ClassificationTask("breast-cancer", "breast-cancer", ("perceptron",), "perceptron"))


def get_task(name: str) -> Task:
    """The task called `name`: a registered name, `images:PATH`, or `module:object` for one's own.

    `KIND:SOURCE` or `KIND=STRENGTH:SOURCE` is an image-to-image task on a source of images, such as
    "inpainting:mnist5k" or "denoising=0.1:images:PATH".

    Raises:
        UnknownName: no task has this name.
        SettingsError: `module:object` names nothing that can be imported, or no task.
        DataError: the image folder is missing or empty.
    """
    if name.startswith(PREFIX):
        # Grey pictures get the network of the grey data sets; the first picture stands for all.
        default = "lenet" if image_mode(name.removeprefix(PREFIX)) == "L" else "groupnorm-cnn"
        return ClassificationTask(name, name, LARGE, default)
    if names_image_to_image(name):
        return image_to_image(name)
    if ":" in name:
        return _imported_task(name)
    return tasks.get(name)


def _imported_task(name: str) -> Task:
    """The object that `module:object` names, if it has all that a task needs."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise SettingsError(f"task {name!r} is not of the form module:object; name both.")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name == module_name.partition(".")[0]:
            # Whoever mistypes a kind of image-to-image task arrives here as well.
            raise SettingsError(
                f"task {name!r}: there is no module {module_name!r} and no kind of image-to-image task of that name "
                f"(known: {', '.join(degradations.names())}); correct the kind, or run from the module's folder or "
                "install it."
            ) from error
        raise SettingsError(
            f"task {name!r}: there is no module {error.name!r}; run from its folder or install it."
        ) from error
    except Exception as error:  # whatever a module of the user's raises
        raise SettingsError(
            f"task {name!r}: importing {module_name!r} failed ({type(error).__name__}: {error}); "
            f"`python -c 'import {module_name}'` shows where."
        ) from error
    task = getattr(module, attribute, None)
    if task is None:
        raise SettingsError(f"task {name!r}: module {module_name!r} has no {attribute!r}; check the name.")
    members = ("name", "networks", "default_network", "dataset", "build", "inputs", "loss")
    lacking = [member for member in members if not hasattr(task, member)]
    if isinstance(task, type) or lacking:
        what = "is a class" if isinstance(task, type) else f"lacks {', '.join(lacking)}"
        raise SettingsError(f"task {name!r} {what}; give an instance of ClassificationTask or of your own.")
    found: Task = task
    return found
