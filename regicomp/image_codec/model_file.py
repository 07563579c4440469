"""Networks as safetensors files that carry everything needed to rebuild them."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from compressai.entropy_models import EntropyBottleneck
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from regicomp.backbone import variable_rate
from regicomp.backbone.entropy_bottleneck import update_tables
from regicomp.config.class_lookup import ClassSpec as Spec
from regicomp.image_codec import compressai_weights, packed_tables, torch_checkpoint, trust
from regicomp.source import told_level
from regicomp.utils.files import write_bytes

_SCHEMA = 1
_MOST_LEVELS = 64  # whose numbers in a container, in thousandths, are bounded so


# Errors that constructors raise for arguments that they cannot use.
_CANNOT_BUILD = (TypeError, ValueError, AssertionError, RuntimeError, ArithmeticError, LookupError, AttributeError)


def _class(spec: Spec, setting: str) -> Any:
    """The class that `_target_` names; it is imported and not called."""
    module_name, _, class_name = spec.target.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"`{setting}._target_` (={spec.target}) must name a class: {error}") from error


# CompressAI's classes whose evaluation is not what they code, and ours of the same weights, which are built for them.
_STAND_INS = {
    "JointAutoregressiveHierarchicalPriors": "Autoregressive",
    "Cheng2020Anchor": "Anchor",
    "Cheng2020Attention": "Attention",
}


def _stand_in(cls: Any) -> Any:
    name = _STAND_INS.get(cls.__name__) if cls.__module__.startswith("compressai.models.") else None
    return cls if name is None else _class(Spec(f"regicomp.backbone.autoregressive.{name}", {}), "backbone")


def build(spec: Spec, setting: str) -> nn.Module:
    """Instantiate a network; one of CompressAI's codecs with a 5×5 causal context as ours of the same weights.

    Raises:
        ValueError: no such class, or it does not take the arguments; `setting` names the group to mend.
    """
    cls = _stand_in(_class(spec, setting))
    try:
        network = cls(**spec.arguments)
    except _CANNOT_BUILD as error:
        raise ValueError(f"`{setting}` (={spec.target} with {spec.arguments}) cannot be built: {error}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"`{setting}._target_` (={spec.target}) must name a torch.nn.Module")
    return network


def _write(
    path: Path, network: nn.Module, spec: Spec, kind: str, run: Mapping[str, Any], halved: frozenset[str] = frozenset()
) -> None:
    state = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    tensors = {name: t.half() if name in halved else t for name, t in state.items()}
    if halved:
        tensors = packed_tables.pack(tensors)
    about = {"format": f"regicomp-{kind}", "schema": _SCHEMA, "spec": spec._asdict(), "run": dict(run)}
    # One key, since safetensors writes several in no fixed order: equal networks make equal files.
    metadata = {"regicomp": json.dumps(about, sort_keys=True)}
    write_bytes(path, save(tensors, metadata))


def _halve(codec: nn.Module) -> frozenset[str]:
    """Round the parameters to float16 in place, but for the few of the entropy bottleneck; the names of those rounded.

    Raises:
        ValueError: one of them is too large.
    """
    few = [f"{name}." for name, module in codec.named_modules() if isinstance(module, EntropyBottleneck)]
    rounded = {name: p for name, p in codec.named_parameters() if not name.startswith(tuple(few))}
    for name, parameter in rounded.items():
        parameter.data.copy_(parameter.data.half())
        if not parameter.isfinite().all():
            raise ValueError(f"the weights of {name} do not fit into float16; export the codec in float32")
    return frozenset(rounded)


def save_codec(path: Path, codec: nn.Module, spec: Spec, run: Mapping[str, Any], half: bool = False) -> None:
    """Write the codec alone with fresh entropy tables.

    Args:
        path: the file, replaced whole.
        codec: the trained network; not changed.
        spec: how it was built.
        run: the record's entry of the run.
        half: store the weights in float16, in half the bytes, and tables without their padding; a codec is made of
            the rounded weights, and its tables are. Else in float32, as CompressAI's class takes them.

    Raises:
        ValueError: a weight does not fit into float16.
    """
    fresh = build(spec, "backbone")
    if (gains := variable_rate.gains_of(codec)) is not None:
        variable_rate.install(fresh, gains.lambdas.tolist())
    nn.Module.load_state_dict(fresh, _without_tables(codec.state_dict()), strict=False)
    halved = _halve(fresh) if half else frozenset()
    update_tables(fresh)
    _write(path, fresh.eval(), spec, "codec", run, halved)


def save_source(path: Path, source: nn.Module, spec: Spec, run: Mapping[str, Any]) -> None:
    """Write the source entropy model q_θ; only measurements need it."""
    _write(path, source, spec, "source", run)


_TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")
_CONSTANTS = ("target", "bound", "scale_bound", "pedestal")


def _without_tables(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t for name, t in state.items() if name.rsplit(".", 1)[-1] not in _TABLES}


class Loaded(NamedTuple):
    """A network read from a file."""

    network: Any  # a codec or a SourceModel; float32, on the CPU, in evaluation mode
    spec: Spec
    run: dict[str, Any]  # the record's entry of the run that made it
    fingerprint: bytes  # SHA-256 of the weights and tables


def _read(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any], bytes]:
    if path.is_dir():  # of a run
        path /= f"{kind}.safetensors"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected the {kind}.safetensors of a run")
    trust.check_header(path)
    try:
        with safe_open(path, framework="pt") as file:  # pyright: ignore[reportUnknownArgumentType]
            text = (file.metadata() or {}).get("regicomp", "{}")
        tensors = load(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: is not a readable safetensors file ({error})") from error
    tensors = packed_tables.unpack(path, tensors)
    return tensors, trust.parse_metadata(path, text), _fingerprint(tensors)


def _fingerprint(tensors: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _load_checkpoint(path: Path) -> Loaded:
    """A codec from a state dict of CompressAI's or of the MLIC++ authors', with tables made of its own quantiles."""
    read = torch_checkpoint.read(path)
    try:
        found, tensors = compressai_weights.to_today(read)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if found is None:
        raise ValueError(
            f"{path}: its weights, such as {next(iter(tensors), 'none')}, are of none of the codecs of CompressAI that "
            "are known here; train one of your class with `init_from`, and take the codec.safetensors of that run"
        )
    stored = sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values()}.values())
    trust.check_spec(path, found.spec._asdict(), stored // 4)
    network = build(found.spec, "backbone")
    if wrong := _unlike(network, _without_tables(tensors)):
        raise ValueError(f"{path}: holds weights like those of {found}, but {wrong}")
    network.update(force=True)  # pyright: ignore[reportCallIssue]
    return Loaded(network.eval(), found.spec, {"backbone": found.label}, _fingerprint(network.state_dict()))


def _unlike(network: nn.Module, tensors: Mapping[str, Tensor], may_lack: tuple[str, ...] = ()) -> str | None:
    """Load what is no table into a network; what does not fit, in words.

    Args:
        network: changed in place.
        tensors: by name, without tables.
        may_lack: children of the network that need not be among them.
    """
    try:
        missing, unexpected = nn.Module.load_state_dict(network, tensors, strict=False)
    except RuntimeError as error:
        return f"its weights do not fit: {(str(error).splitlines() or [''])[-1].strip()}"
    lacking, unknown = (
        [name for name in names if name.rsplit(".", 1)[-1] not in (*_TABLES, *_CONSTANTS)]
        for names in (missing, unexpected)
    )
    lacking = [name for name in lacking if name.partition(".")[0] not in may_lack]
    if lacking or unknown:
        return f"{len(lacking)} weights are missing and {len(unknown)} are unknown, such as {(lacking + unknown)[0]}"
    return None


def _load(path: Path, kind: str, trusted: tuple[str, ...]) -> Loaded:
    if kind == "codec" and path.is_file() and torch_checkpoint.is_one(path):
        return _load_checkpoint(path)
    tensors, metadata, fingerprint = _read(path, kind)
    if metadata.get("format") != f"regicomp-{kind}" or metadata.get("schema") != _SCHEMA:
        raise ValueError(
            f"{path}: is no {kind} of this version (format {metadata.get('format')!r}, schema "
            f"{metadata.get('schema')!r}); expected 'regicomp-{kind}', {_SCHEMA!r}"
        )
    setting = "backbone" if kind == "codec" else "source"
    spec = Spec(*trust.check_spec(path, metadata.get("spec"), sum(t.numel() for t in tensors.values()), trusted))
    cls = _class(spec, setting)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise ValueError(f"{path}: names {spec.target}, which is no network's class")
    trust.check_class(path, cls, trusted)
    network = build(spec, setting)
    _add_levels(path, network, kind, tensors)
    try:
        network.load_state_dict(tensors)
    except _CANNOT_BUILD as error:
        raise ValueError(f"{path}: its weights do not fit {spec.target}: {error}") from error
    return Loaded(network.eval(), spec, trust.check_run(path, metadata.get("run")), fingerprint)


def _add_levels(path: Path, network: nn.Module, kind: str, tensors: Mapping[str, Tensor]) -> None:
    """Give a network what it needs to take the weights of a variable rate, where the file has them."""
    try:
        if kind == "codec" and (lambdas := tensors.get(f"{variable_rate.NAME}.lambdas")) is not None:
            if not lambdas.dtype == torch.float64 or lambdas.dim() != 1 or len(lambdas) > _MOST_LEVELS:
                raise ValueError(f"its λ must be at most {_MOST_LEVELS} numbers")
            variable_rate.install(network, lambdas.tolist())
        if kind == "source" and (bias := tensors.get(f"{told_level.NAME}.bias")) is not None:
            told_level.install(network, told_level.levels_in(network, bias))
    except _CANNOT_BUILD as error:
        raise ValueError(f"{path}: its levels of quality cannot be used: {error}") from error


def load_codec(path: Path, trusted: tuple[str, ...] = ()) -> Loaded:
    """Read a codec with the entropy tables it was exported with.

    Args:
        path: the file, or the folder of a run.
        trusted: modules of the user's own whose classes the file may name, too.

    Raises:
        ValueError: missing, unreadable, of another version, or naming a class that is not a known codec.
    """
    return _load(path, "codec", trusted)


def load_source(path: Path, trusted: tuple[str, ...] = ()) -> Loaded:
    """Read a source entropy model; see `load_codec`."""
    return _load(path, "source", trusted)


def initialize(codec: nn.Module, path: Path) -> None:
    """Start `codec` from the weights of a codec.safetensors, or of CompressAI's or the MLIC++ authors' state dict.

    Raises:
        ValueError: the file is unreadable or its weights do not fit.
    """
    setting = f"`init_from` (={path})"
    try:
        read = torch_checkpoint.read(path) if torch_checkpoint.is_one(path) else _read(path, "codec")[0]
        found, tensors = compressai_weights.to_today(read)
    except ValueError as error:
        raise ValueError(f"{setting}: {str(error).removeprefix(f'{path}: ')}") from error
    tensors = _without_tables(tensors)
    # A codec of fixed rate may start one of variable rate, whose gains keep what they begin with.
    of_levels = () if any(name.startswith(f"{variable_rate.NAME}.") for name in tensors) else (variable_rate.NAME,)
    own = compressai_weights.identify(codec.state_dict())
    if wrong := _unlike(codec, tensors, of_levels):
        if found is not None and own is not None and found != own:
            raise ValueError(f"{setting} holds {found}, but this backbone is {own}; take {found.overrides()}")
        raise ValueError(f"{setting} must hold the weights of this backbone, but {wrong}")


def initialize_source(source: nn.Module, path: Path) -> None:
    """Start `source`, a source entropy model, from the weights of a source.safetensors.

    Raises:
        ValueError: the file is unreadable or its weights do not fit.
    """
    tensors, _, _ = _read(path, "source")
    try:
        source.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"`init_source_from` (={path}): its weights do not fit this source entropy model: {error}"
        ) from error
