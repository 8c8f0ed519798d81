"""What torch.compile made, kept for the other jobs of a run and the nodes of a cluster.

One file for each thing that is compiled: family, batch sizes, torch, GPU and code are in its name.
What it holds is code that a job will run, so only a file of the user's own is read, which nobody
else may write; and it is unpacked into a folder of this node that is the user's own, too.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import torch

import genclass
from genclass.errors import GenclassError
from genclass.files import atomic_file
from genclass.specs.spec import Spec
from genclass.text import canonical_json, digest

_FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # where torch looks; a user's own choice stands
_HEAD = b"genclass compiled 1\n"


class CompileCache:
    """The file of a job's compiled code.

    `load` before the first call of what is compiled, `save` after the last that may compile.
    """

    def __init__(self, folder: Path, spec: Spec, class_batch: int) -> None:
        self.path = folder / f"{spec.system.family.architecture}-{_key(spec, class_batch)}.compiled"
        self._loaded = False

    def load(self) -> bool:
        """Give torch what an earlier job compiled. False: nothing is there that may be used.

        A damaged file is removed; so is one that others own or may write, where that is possible.
        """
        os.environ.setdefault(_FOLDER, str(_own_folder()))
        try:
            content = _own_content(self.path)
            if content is None:
                return False
            self._loaded = torch.compiler.load_cache_artifacts(content) is not None
            if not self._loaded:
                raise GenclassError("damaged")
        except Exception as error:  # torch unpickles: damage may raise anything
            print(f"{self.path}: not used, compiled anew: {error}", flush=True)
            with suppress(OSError):
                self.path.unlink()
            return False
        return True

    def save(self) -> None:
        """Keep what this process compiled, if it found no file; the last of several jobs wins."""
        if self._loaded:
            return
        self._loaded = True
        artifacts = torch.compiler.save_cache_artifacts()
        if artifacts is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            checksum = hashlib.sha256(artifacts[0]).digest()
            with atomic_file(self.path) as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(_HEAD + checksum + artifacts[0])
        except (OSError, GenclassError) as error:  # a full disk costs the next job seconds
            print(f"{self.path}: not kept: {error}", flush=True)


def _key(spec: Spec, class_batch: int) -> str:
    """Of all that decides what is compiled."""
    package = Path(genclass.__file__).parent
    code = {
        str(file.relative_to(package)): hashlib.sha256(file.read_bytes()).hexdigest()
        for part in ("models", "scorers")
        for file in sorted((package / part).glob("*.py"))
    }
    family = spec.system.family
    device = torch.cuda.get_device_properties() if torch.cuda.is_available() else None
    return digest(
        canonical_json(
            {
                "network": family.model_dump(mode="json", exclude={*family.checkpoint_fields}),
                "options": spec.system.options.model_dump(mode="json"),
                "plugin": spec.plugin,
                "classes": [class_batch, len(spec.candidates), spec.races],
                "code": code,
                "device": [device.name, device.major, device.minor] if device else "cpu",
                "versions": [torch.__version__, torch.version.cuda, platform.python_version()],
                "machine": platform.machine(),
            }
        )
    )[:16]


def _own_folder() -> Path:
    """A folder of this node that only this user may use."""
    folder = Path(tempfile.gettempdir()) / f"genclass-compiled-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="genclass-compiled-"))


def _own_content(path: Path) -> bytes | None:
    """What the file holds; None: there is none.

    Raises:
        GenclassError: it is not this user's alone, or damaged.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise GenclassError("others own it or may write it")
        content = file.read()
    head, checksum = len(_HEAD), hashlib.sha256().digest_size
    artifacts = content[head + checksum :]
    if (
        content[:head] != _HEAD
        or content[head : head + checksum] != hashlib.sha256(artifacts).digest()
    ):
        raise GenclassError("damaged")
    return artifacts
