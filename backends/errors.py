"""The exception tree.

    SnugError
    |-- InputError             the person's input is wrong          (exit code 2)
    |   |-- ModelNotFound (StarterMissing), ModelDamaged (MmprojForeign), ModelUnsupported
    |   |-- ImageUnreadable, ImageTooLarge, PicturesUnseen (MmprojMissing), PicturesExceeded, OnePictureOnly
    |   |-- SettingInvalid, DeviceMapInvalid
    |   `-- ContextExceeded
    |-- MachineError           the machine can't do it              (exit code 3)
    |   |-- OutOfMemory (OutOfGpuMemory, OutOfRam (RamKilled))
    |   |-- DiskFull (AnswersDiskFull), FolderReadOnly (AnswersUnwritable), OutputLost, PortInUse
    |   |-- DoesNotFit, GpuGone, GpuUnsupported, KernelsMissing, CpuUnsupported, CannotMove, PackageMissing
    |   `-- WorkerCrashed, WorkerHung, NotLoaded, ModelReplaced
    |-- Cancelled              the person stopped it                (exit code 130)
    `-- InternalError          a mistake of ours                    (exit code 4)

Each class holds what happened, why (with figures) and what to do, in English; ui/i18n translates by
`code`. `action` names a button the page offers. Raw upstream messages go to the log, never to a person.
"""

from __future__ import annotations

from backends.error_base import Action as Action  # noqa: PLC0414 - the tree begins here for everybody
from backends.error_base import InputError as InputError  # noqa: PLC0414
from backends.error_base import MachineError as MachineError  # noqa: PLC0414
from backends.error_base import SnugError as SnugError  # noqa: PLC0414
from backends.text import Text


class ModelNotFound(InputError):
    """No model where the person pointed."""

    code = "model_not_found"
    what = "There is no model at {path}."
    why = "{detail}"
    remedy = "Give the folder that holds config.json and the weight files, or choose the starter model."
    action = Action.PICK_MODEL


class StarterMissing(ModelNotFound):
    """The model that comes with Snug is not where it belongs."""

    code = "starter_missing"
    what = "The starter model is missing."
    why = "Snug's own folder should hold it in {path}."
    remedy = "Copy or clone Snug's folder again, or name another model."


class ModelDamaged(InputError):
    """A file of the model is truncated, missing or not what its name says."""

    code = "model_damaged"
    what = "The model in {path} is damaged."
    why = "{detail}"
    remedy = "Download or copy {file} again; the other files can stay."
    action = Action.PICK_MODEL


class MmprojForeign(ModelDamaged):
    """The picture part beside a GGUF model was made for another one."""

    code = "mmproj_foreign"
    what = "The picture part beside the model in {path} is another model's."
    why = "{detail}"
    remedy = "Put the mmproj of this model there, or move {file} elsewhere: then the model reads text only."


class ModelUnsupported(InputError):
    """A model that Snug can't run: unknown architecture, or it needs code of its own."""

    code = "model_unsupported"
    what = "Snug can't run the model in {path}."
    why = "{detail}"
    remedy = "{suggestion}"
    action = Action.PICK_MODEL


class ImageUnreadable(InputError):
    """Not a picture, or a broken one."""

    code = "image_unreadable"
    what = "{name} can't be read as a picture."
    why = "{detail}"
    remedy = "Open it in an image viewer and save it as PNG or JPEG, then try again."


class ImageTooLarge(InputError):
    """More pixels or bytes than Snug decodes."""

    code = "image_too_large"
    what = "{name} is too large."
    why = "{size}; the limit is {limit_megapixels} megapixels, {limit_bytes:bytes}."
    remedy = "Make it smaller (models look at far fewer pixels anyway), then try again."


class PicturesUnseen(InputError):
    """A question with pictures for a model without eyes, which would answer as if it saw them."""

    code = "pictures_unseen"
    what = "{model} can't see pictures."
    why = "It reads text only, and the question comes with a picture."
    remedy = "Choose a vision-language model, such as the starter, or ask without a picture."
    action = Action.PICK_MODEL


class MmprojMissing(PicturesUnseen):
    """A question with pictures for a GGUF model whose picture part is not there; `file` is the model's."""

    code = "mmproj_missing"
    what = "{model} can't see pictures."
    why = (
        "A GGUF model sees through a second file, with mmproj in its name; none that fits lies beside {file}."
    )
    remedy = "If one was published with it, put it into that folder and load again; or ask without a picture."


class PicturesExceeded(InputError):
    """More pictures in a chat than the plan keeps memory for, where the number of them decides how much.

    `next_step`, where it is among the values, takes the place of the remedy.
    """

    code = "pictures_exceeded"
    what = "This chat has more pictures than memory is kept for."
    why = "It has {pictures:count}; the plan counts {planned:count} (pictures per chat)."
    remedy = "Plan for {pictures:count} pictures per chat, or ask about fewer."
    action = Action.MORE_PICTURES


class OnePictureOnly(InputError):
    """A second picture for a model that was taught to look at one."""

    code = "one_picture_only"
    what = "This model looks at one picture in a conversation."
    why = "There are {pictures:count} in this one."
    remedy = "Start another conversation for the next picture, or remove one."


class SettingInvalid(InputError):
    """An option or setting that does not exist or has an impossible value."""

    code = "setting_invalid"
    what = "{name} can't be {value}."
    why = "{detail}"
    remedy = "{suggestion}"


class DeviceMapInvalid(InputError):
    """A hand-written device map that would fail or forget a module."""

    code = "device_map_invalid"
    what = "The device map can't be used."
    why = "{detail}"
    remedy = "{suggestion}"


class ContextExceeded(InputError):
    """The conversation is longer than the model or the plan can hold."""

    code = "context_exceeded"
    what = "This conversation is too long for the model."
    why = "It needs {needed_tokens:count} tokens; the plan holds {context_tokens:count}."
    remedy = "Start a new conversation, remove a picture, or set a longer context."
    action = Action.SHORTEN


class OutOfMemory(MachineError):
    """No memory was left. `needed_bytes` is 0 where nobody told how much was missing.

    `next_step`, where it is among the values, takes the place of the remedy: what to try now.
    """

    code = "out_of_memory"
    what = "Memory ran out while {stage}."
    why = "{needed_bytes:bytes} more were needed and {free_bytes:bytes} were free."
    remedy = "Close other programs, or choose a preset that uses less memory."
    action = Action.STEP_DOWN

    @property
    def why_text(self) -> Text:
        """Why, without a figure that nobody knows."""
        if self.values.get("needed_bytes"):
            return super().why_text
        return Text.of(
            "error.out_of_memory.unknown",
            "How much was missing is not known; {free_bytes:bytes} were free.",
            free_bytes=self.values.get("free_bytes", 0),
        )


class OutOfGpuMemory(OutOfMemory):
    """A GPU allocation failed."""

    code = "out_of_gpu_memory"
    what = "{device} ran out of memory while {stage}."
    why = "{needed_bytes:bytes} more were needed and {free_bytes:bytes} were free."
    remedy = "Choose a preset that uses less GPU memory, or close other programs that use the GPU."


class OutOfRam(OutOfMemory):
    """The machine's memory is used up."""

    code = "out_of_ram"
    what = "The machine ran out of memory while {stage}."
    why = "{needed_bytes:bytes} were needed and {free_bytes:bytes} were free."
    remedy = "Close other programs, or choose a smaller model or a preset that uses less memory."


class RamKilled(OutOfRam):
    """The system ended the model's process because no memory was left; `needed_bytes` is what was planned."""

    code = "ram_killed"
    what = "The machine ran out of memory while {stage}, and the system ended the model's process."
    why = "{needed_bytes:bytes} were planned for it; {free_bytes:bytes} are free now that it is gone."


class DiskFull(MachineError):
    """No space where Snug writes. `next_step`, where it is among the values, takes the remedy's place."""

    code = "disk_full"
    what = "The disk is full."
    why = "{needed_bytes:bytes} are needed in {path} and {free_bytes:bytes} are free."
    remedy = "Free some space, or set SNUG_HOME to a folder on another disk."


class FolderReadOnly(MachineError):
    """A folder that Snug must write to can't be written."""

    code = "folder_read_only"
    what = "{path} can't be written."
    why = "{detail}"
    remedy = "Set SNUG_HOME to a folder that you may write to."


class AnswersDiskFull(DiskFull):
    """No space for the file that a person named for answers."""

    code = "answers_disk_full"
    remedy = "Free some space and run the command again: it goes on where it stopped."


class AnswersUnwritable(FolderReadOnly):
    """The file that a person named for answers can't be written."""

    code = "answers_unwritable"
    remedy = "Name a file with --out in a folder that you may write to."


class OutputLost(MachineError):
    """What a command prints has nowhere to go: a full disk behind a redirection, a closed console."""

    code = "output_lost"
    what = "The answer could not be written out."
    why = "Where the output goes takes nothing more: a full disk, perhaps, or a window that was closed."
    remedy = "Send the output elsewhere, or free some space, and run the command again."


class PortInUse(MachineError):
    """Another program listens on the port."""

    code = "port_in_use"
    what = "Port {port} is in use."
    why = "Another program, perhaps another Snug, already listens on {host}:{port}."
    remedy = "Use that one, end it, or choose another port with --port {free_port}."


class DoesNotFit(MachineError):
    """No placement of this model fits what the preset may use."""

    code = "does_not_fit"
    what = "{model} does not fit with the preset {preset}."
    why = "{detail}"
    remedy = "{suggestion}"
    action = Action.USE_LOWER_PRESET


class GpuGone(MachineError):
    """A GPU that the plan uses is not there any more."""

    code = "gpu_gone"
    what = "{device} is not there any more."
    why = "The plan uses it, and this process sees {count} GPUs now."
    remedy = "Check its cable, power and driver, look at the hardware again, then load once more."
    action = Action.RETRY


class GpuUnsupported(MachineError):
    """The installed PyTorch has no code for GPUs of the plan; `gpus` are their numbers, as in "0,2"."""

    code = "gpu_unsupported"
    what = "The installed PyTorch can't use {device}."
    why = "{detail}"
    remedy = "Plan without it. launch.py doctor compares PyTorch, the driver and every GPU."
    action = Action.WITHOUT_GPU


class KernelsMissing(MachineError):
    """The installed bitsandbytes has no code for a GPU that PyTorch itself can use."""

    code = "kernels_missing"
    what = "The installed bitsandbytes can't use {device}."
    why = "It computes with 8-bit and 4-bit weights, and holds no code that this card can run."
    remedy = "Choose a precision that works without it: bf16, fp16 or fp32, or q8_0 or q4_0 with llama.cpp."
    action = Action.SIXTEEN_BITS


class CpuUnsupported(MachineError):
    """The processor lacks instructions that llama.cpp's builds are made of; `features` are their names."""

    code = "cpu_unsupported"
    what = "This processor can't run llama.cpp."
    why = "It lacks {features}, which the engine for GGUF files is built with."
    remedy = "Use the same model with config.json and .safetensors files, and --set engine=transformers."
    action = Action.PICK_MODEL


class CannotMove(MachineError):
    """A loaded model can't be rearranged as asked without reading its files again."""

    code = "cannot_move"
    what = "The model can't be rearranged like this while it is loaded."
    why = "{detail}"
    remedy = "Load it again with the new plan; the conversation is kept."
    action = Action.RESTART


class PackageMissing(MachineError):
    """A package is not installed or does not start on this machine."""

    code = "package_missing"
    what = "{package} can't be used."
    why = "{detail}"
    remedy = "Run launch.py again; it repairs its environment."


class WorkerCrashed(MachineError):
    """The model's process ended unasked."""

    code = "worker_crashed"
    what = "The model's process ended while {stage}."
    why = "{detail}"
    remedy = "Your conversation and your draft are kept. Start the model again."
    action = Action.RESTART


class WorkerHung(MachineError):
    """The model's process did not answer and was ended."""

    code = "worker_hung"
    what = "The model's process stopped answering while {stage}."
    why = "It gave no sign of life for {seconds:seconds}, so it was ended."
    remedy = "Your conversation and your draft are kept. Start the model again."
    action = Action.RESTART


class NotLoaded(MachineError):
    """A question came while no model is loaded."""

    code = "not_loaded"
    what = "No model is loaded."
    why = "The question needs a model in memory."
    remedy = "Press Load, then ask again."
    action = Action.RESTART


class ModelReplaced(MachineError):
    """Room for pictures was asked of a model that another one has taken the place of."""

    code = "model_replaced"
    what = "Another model is loaded now."
    why = "{model} kept no memory for the pictures; {loaded} has taken its place since."
    remedy = "Try again, and {loaded} answers; or choose {model}, load it and ask it again."
    action = Action.RETRY


class Cancelled(SnugError):
    """The person stopped it."""

    code = "cancelled"
    what = "Stopped."
    why = "You asked to stop."
    remedy = "Nothing is lost; go on when you like."
    exit_code = 130


class InternalError(SnugError):
    """A mistake of ours; details are in the log."""

    code = "internal"
    what = "Snug made a mistake."
    why = "{detail}"
    remedy = "The log in {log} has the details; please report it with that file."
    action = Action.RETRY
