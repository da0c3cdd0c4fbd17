"""Datasets' files: IDX, CIFAR's pickles, NumPy archives, tar archives, pictures."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import resource
import struct
import sys
import tarfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example
from hypothesis import strategies as st
from PIL import Image

from kerascnn.data import fetch, formats
from kerascnn.data.images import open_image
from kerascnn.data.known import DATASETS
from kerascnn.data.pickles import restricted_pickle
from kerascnn.errors import DatasetError
from kerascnn.training.inference import as_input
from tests.fuzz.harness import NUMBERS, answer, fuzzed, leaves, mutated, values
from tests.test_data import Python2Pickler, idx

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
IDX = idx(PIXELS)


def whole_idx(header: bytes, sizes: list[int], rest: bytes) -> bytes:
    return header + b"".join(struct.pack(">I", n % 2**32) for n in sizes) + rest


@fuzzed(
    "IDX",
    long=10_000,
    content=mutated(IDX)
    | st.builds(
        whole_idx,
        st.just(b"\0\0\x08\x03") | st.binary(min_size=4, max_size=4),
        st.lists(st.integers(0, 2**32) | st.sampled_from([2**31, 2**32 - 1, 5, 4, 3]), max_size=5),
        st.binary(max_size=100),
    ),
    compressed=st.booleans(),
)
@example(content=whole_idx(b"\0\0\x08\x03", [2**32 - 1, 2**32 - 1, 2**32 - 1], b""), compressed=False)
@example(content=b"\0\0\x08\x03", compressed=False)
def test_an_idx_file(folder: Path, content: bytes, compressed: bool) -> None:
    path = folder / ("images.gz" if compressed else "images")
    path.write_bytes(gzip.compress(content, 1) if compressed else content)
    read = answer(lambda: formats.read_idx(path, PIXELS.shape), size=len(content))
    assert (read is not None) == (len(content) == len(IDX) and content[:16] == IDX[:16])


@fuzzed("IDX", long=2000, content=mutated(gzip.compress(IDX, 1)))
@example(content=gzip.compress(bytes(2**28), 9))
def test_a_gzipped_idx_file(folder: Path, content: bytes) -> None:
    path = folder / "images.gz"
    path.write_bytes(content)
    answer(lambda: formats.read_idx(path, PIXELS.shape), size=len(content))


# ── CIFAR's pickles ───────────────────────────────────────────────────────────────────────────────────────────────────

IMAGES = 3


def cifar(*, python2: bool, protocol: int = 2) -> bytes:
    batch = {
        b"data": np.random.default_rng(0).integers(0, 256, (IMAGES, 3072), dtype=np.uint8),
        b"labels": list(range(IMAGES)),
        b"filenames": [b"a.png"] * IMAGES,
    }
    file = io.BytesIO()
    (Python2Pickler(file, 2) if python2 else pickle.Pickler(file, protocol)).dump(batch)
    return file.getvalue()


# The pixels in the middle say nothing to a reader: without most of them the edits meet instructions.
BATCHES = [cifar(python2=True), *(cifar(python2=False, protocol=protocol) for protocol in (0, 1, 2, 3, 4))]
CALLS = tuple(
    tuple(call.split(" "))
    for call in (
        "os system", "posix system", "builtins eval", "builtins exec", "builtins getattr", "__builtin__ eval",
        "subprocess Popen", "numpy load", "numpy.f2py.crackfortran myeval", "numpy.testing._private.utils runstring",
        "copyreg _reconstructor", "operator methodcaller", "kerascnn.data.pickles Path", "pathlib Path.touch",
        "numpy dtype", "numpy ndarray", "_codecs encode", "numpy.core.multiarray _reconstruct",
    )
)  # fmt: skip
short_text = st.binary(max_size=8).map(lambda text: b"U" + bytes([len(text)]) + text)
BARE = [bytes([code]) for code in b"()]}.012latdsuRbQoN\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x94\x97\x98"]
WITH_LENGTH = [bytes([code]) for code in b"JMTXBrj\x8a\x8b\x8d\x8e\x95\x96"]
instructions = st.one_of(
    st.sampled_from(CALLS).map(lambda call: b"c" + "\n".join(call).encode() + b"\n"),
    st.sampled_from(CALLS).map(lambda call: b"i" + "\n".join(call).encode() + b"\n"),
    st.sampled_from(CALLS).map(
        lambda call: b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in call) + b"\x93"
    ),
    st.sampled_from(BARE),
    st.sampled_from([b"\x80\x02", b"\x80\xff", b"K\x01", b"q\x00", b"h\x00", b"h\x01", b"I01\n", b"X\1\0\0\0a"]),
    st.builds(lambda code, number: code + number, st.sampled_from(WITH_LENGTH), st.sampled_from(NUMBERS)),
    st.builds(lambda code, name: code + name, st.sampled_from([b"\x82", b"\x83", b"\x84"]), st.binary(max_size=4)),
    short_text,
)

# A pair of the pair before it, forty times over: small in memory, endless to hash or to write down.
ENDLESS_PAIRS = b")q\x00" + b"".join(bytes([*b"0h", n, *b"h", n, 0x86, *b"q", n + 1]) for n in range(40))
LONG_TEXT = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
MANY_COPIES = b"c_codecs\nencode\nq\x00" + LONG_TEXT + b"X\6\0\0\0latin1\x86q\x01](" + b"h\x00h\x01R" * 300 + b"e."
LONG_LABEL = pickle.dumps({b"data": np.zeros((IMAGES, 3072), np.uint8), b"labels": [2**20000] * IMAGES}, 2)


def with_shape(shape: bytes) -> bytes:
    """A batch whose array says that its shape is this."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01" + shape + b"cnumpy\ndtype\n(U\x02u1tRI00\nU\x00tb"
    return b"}(U\x04data" + array + b"U\x06labels](K\x00K\x00K\x00eu."


@fuzzed(
    "CIFAR pickle",
    short=250,
    long=10_000,
    content=st.one_of(
        st.sampled_from(BATCHES).flatmap(mutated),
        st.lists(instructions, max_size=25).map(lambda parts: b"".join(parts) + b"."),
        st.builds(
            lambda parts, batch, at: batch[: int(at * 150)] + b"".join(parts) + batch[int(at * 150) :],
            st.lists(instructions, min_size=1, max_size=5),
            st.sampled_from(BATCHES),
            st.floats(0, 1),
        ),
        st.builds(lambda content: pickle.dumps(content), values),
        st.builds(
            lambda data, labels: pickle.dumps({b"data": data, b"labels": labels}, 2),
            leaves | st.just(np.zeros((IMAGES, 3072), np.uint8)),
            st.lists(leaves, max_size=4) | leaves,
        ),
    ),
)
@example(content=b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b".")
@example(content=b"(" + ENDLESS_PAIRS + b"K\x01d.")
@example(content=b"}" + ENDLESS_PAIRS + b"K\x01s.")
@example(content=b"}(" + ENDLESS_PAIRS + b"K\x01u.")
@example(content=b"]" + ENDLESS_PAIRS + b"a.")
@example(content=with_shape(ENDLESS_PAIRS))
@example(content=b"\x80\x04\x8f(" + ENDLESS_PAIRS + b"\x90.")
@example(content=MANY_COPIES)
@example(content=LONG_LABEL)
@example(content=b"\x80\x02c_codecs\nencode\n}X\x0c\0\0\0__defaults__)s\x86b.")
@example(content=b"]" * 200_000 + b".")
@example(content=b"}" * 200_000 + b".")
def test_a_cifar_batch(folder: Path, content: bytes) -> None:
    path = folder / "data_batch_1"
    path.write_bytes(content)
    images = np.empty((IMAGES, 32, 32, 3), np.uint8)
    labels = answer(lambda: formats.read_cifar_batch(path, images, b"labels", 10), size=len(content))
    if labels is not None:
        assert labels.shape == (IMAGES,)
        assert labels.min() >= 0
        assert labels.max() < 10
    answer(lambda: formats.read_cifar_class_names(path, b"filenames", IMAGES), size=len(content))


@pytest.mark.parametrize("batch", BATCHES, ids=["python 2", *(f"protocol {n}" for n in range(5))])
def test_every_way_of_pickling_a_batch_is_read(batch: bytes, tmp_path: Path) -> None:
    """Else the test above might see nothing but refusals."""
    path = tmp_path / "data_batch_1"
    path.write_bytes(batch)
    images = np.empty((IMAGES, 32, 32, 3), np.uint8)
    assert formats.read_cifar_batch(path, images, b"labels", 10).tolist() == list(range(IMAGES))
    assert images.any()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def calls(module: str, name: str, argument: str) -> dict[str, bytes]:
    """A call of ``module.name(argument)`` in every way that pickle has."""
    return {
        "REDUCE": named(module, name) + text(argument) + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04" + text(module) + text(name) + b"\x93" + text(argument) + b"\x85R.",
        "INST": b"(" + text(argument) + f"i{module}\n{name}\n.".encode(),
        "OBJ": b"(" + named(module, name) + text(argument) + b"o.",
        "NEWOBJ": b"\x80\x02" + named(module, name) + text(argument) + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + named(module, name) + text(argument) + b"\x85}\x92.",
        "EXT1": b"\x80\x02\x82\xf0" + text(argument) + b"\x85R.",
        "BUILD": named("numpy.core.multiarray", "_reconstruct") + b")R}" + text("__setstate__") + named(module, name)
        + b"sb" + text(argument) + b"b.",
        "a call as a function's name": named("_codecs", "encode") + named(module, name) + text(argument) + b"\x86R"
        + text("x") + b"\x85R.",
    }  # fmt: skip


@pytest.mark.parametrize("way", list(calls("a", "b", "c")))
@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("builtins", "eval"), ("builtins", "exec")])
def test_a_pickle_that_calls_a_function_is_refused_and_calls_none(
    way: str, module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import copyreg

    canary, path = tmp_path / "canary", tmp_path / "data_batch_1"
    create = f"touch {canary}" if name == "system" else f"open({str(canary)!r}, 'w')"
    # The two tables that EXT1 looks a function up in, the second without asking anybody.
    monkeypatch.setitem(copyreg._inverted_registry, 0xF0, (module, name))  # type: ignore[attr-defined]
    monkeypatch.setitem(copyreg._extension_cache, 0xF0, getattr(__import__(module), name))  # type: ignore[attr-defined]
    path.write_bytes(calls(module, name, create)[way])
    with pytest.raises(DatasetError, match="expected a pickle of images and labels: "):
        restricted_pickle(path)
    assert not canary.exists()
    if way in ("REDUCE", "STACK_GLOBAL", "INST", "OBJ", "EXT1"):
        pickle.loads(path.read_bytes())
        assert canary.exists(), "the pickle calls nothing even where it may"


# ── NumPy archives ────────────────────────────────────────────────────────────────────────────────────────────────────


def npz(compression: int, **arrays: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                if isinstance(array, bytes):
                    member.write(array)
                else:
                    np.lib.format.write_array(member, array)
    return file.getvalue()


def npy_with(header: str, content: bytes = bytes(60)) -> bytes:
    text = header.encode("latin1", "replace")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def with_encrypted_flag(content: bytes) -> bytes:
    """As an archive with a password has it."""
    local, central = content.index(b"PK\x03\x04"), content.index(b"PK\x01\x02")
    changed = bytearray(content)
    changed[local + 6] |= 1
    changed[central + 8] |= 1
    return bytes(changed)


NPZ = npz(zipfile.ZIP_DEFLATED, x=PIXELS)
HEADER = "{{'descr': {}, 'fortran_order': {}, 'shape': {}}}\n"
headers = st.one_of(
    st.builds(
        HEADER.format,
        st.sampled_from(["'|u1'", "'|O'", "'<f8'", "[('a', '|O')]", "''", "None", "'|V9999999999'", "'|u1' * 9"]),
        st.sampled_from(["False", "True", "None", "1"]),
        st.sampled_from(["(5, 4, 3)", "(2**40,)", "(1099511627776,)", "(-1,)", "5", "()", "(" * 200, "(5, 4, 3.0)"]),
    ),
    st.text(max_size=40),
    st.sampled_from(["(" * 5000, "[" * 9000, "-" * 9000, "{1:" * 1000, "9" * 5000, "''" * 4000, "\\x00"]),
)


@fuzzed(
    "npz",
    short=250,
    long=4000,
    content=st.one_of(
        mutated(NPZ),
        mutated(npz(zipfile.ZIP_STORED, x=PIXELS)),
        headers.map(lambda header: npz(zipfile.ZIP_STORED, x=npy_with(header))),
    ),
)
@example(content=npz(zipfile.ZIP_BZIP2, x=npy_with(HEADER.format("'|u1'", "False", "(5, 4, 3)"), bytes(2**27))))
@example(content=npz(zipfile.ZIP_LZMA, x=npy_with(HEADER.format("'|u1'", "False", "(5, 4, 3)"), bytes(2**27))))
@example(content=npz(zipfile.ZIP_DEFLATED, x=npy_with(HEADER.format("'|u1'", "False", "(5, 4, 3)"), bytes(2**27))))
@example(content=with_encrypted_flag(NPZ))
def test_a_numpy_archive(folder: Path, content: bytes) -> None:
    path = folder / "a.npz"
    path.write_bytes(content)
    read = answer(lambda: formats.read_npz(path, {"x": PIXELS.shape}), size=len(content))
    assert read is None or read["x"].shape == PIXELS.shape


# ── Archives of a dataset ─────────────────────────────────────────────────────────────────────────────────────────────

CIFAR = replace(DATASETS["cifar10"], train_images=15, test_images=3)


def tar(members: list[tuple[str, bytes, str, bytes]], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, kind, link, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


FOLDER = "cifar-10-batches-py"
BATCH_FILES = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
TAR = tar([(f"{FOLDER}/{name}", tarfile.REGTYPE, "", b"content") for name in BATCH_FILES])
CLIMBING = ("../canary", f"{FOLDER}/../../canary", "/tmp/kerascnn-canary", f"{FOLDER}/a", FOLDER, "a\0b", "", ".", "..")
members = st.tuples(
    st.sampled_from([*CLIMBING, *(f"{FOLDER}/{name}" for name in BATCH_FILES), "x" * 300]),
    st.sampled_from([bytes([code]) for code in b"0123456789SLKxgD"]),
    st.sampled_from(["", "..", "../canary", "/etc/passwd", FOLDER, f"{FOLDER}/a", "a\0b"]),
    st.binary(max_size=20),
)


@fuzzed(
    "archive",
    short=250,
    long=3000,
    content=st.one_of(
        mutated(TAR),
        mutated(gzip.compress(TAR, 1)),
        st.lists(members, max_size=6).map(tar),
        mutated(TAR).map(lambda content: gzip.compress(content, 1)),
    ),
)
@example(content=tar([(f"{FOLDER}/a", tarfile.REGTYPE, "", b""), ("../canary", tarfile.REGTYPE, "", b"out")]))
@example(content=tar([(f"{FOLDER}/a", tarfile.CHRTYPE, "", b"")]))
@example(content=tar([(f"{FOLDER}/a", tarfile.LNKTYPE, "/etc/passwd", b"")]))
@example(content=tar([(f"{FOLDER}/a", tarfile.SYMTYPE, "../..", b""), (f"{FOLDER}/a/b", tarfile.REGTYPE, "", b"out")]))
def test_an_archive_stays_in_its_folder(folder: Path, content: bytes) -> None:
    """Even one with the published SHA-256."""
    place = folder / "deep" / "er"
    place.mkdir(parents=True, exist_ok=True)
    archive = folder / "cifar.tar.gz"
    archive.write_bytes(content)
    published = replace(CIFAR.files[0], sha256=hashlib.sha256(content).hexdigest())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASCNN_DATA", str(place))
        answer(lambda: fetch.unpack(replace(CIFAR, files=(published,)), archive), size=len(content))
    assert {entry.name for entry in folder.iterdir()} == {"deep", "cifar.tar.gz"}
    assert {entry.name for entry in (folder / "deep").iterdir()} == {"er"}
    left = {entry.name.partition(".incomplete-")[0] for entry in place.iterdir()}
    assert left <= {FOLDER, f".{CIFAR.name}.lock"}
    assert not Path("/tmp/kerascnn-canary").exists()
    for path in place.rglob("*"):
        assert path.is_file() or path.is_dir() or path.is_symlink(), f"{path} is a device"
        assert path.resolve().is_relative_to(place.resolve()), f"{path} leads out"


# ── Pictures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def picture(kind: str, mode: str = "RGB", **more: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 20, 3), dtype=np.uint8)).convert(mode).save(
        file, kind, **more
    )
    return file.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colours: int, pixels: bytes, interlace: int = 0) -> bytes:
    """A PNG with right checksums, whatever it says."""
    header = struct.pack(">IIBBBBB", width % 2**32, height % 2**32, depth, colours, 0, 0, interlace)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


PICTURES = [picture("PNG"), picture("PNG", "L"), picture("PNG", "P"), picture("PNG", "I;16"), picture("JPEG")]
PICTURES += [picture("JPEG", "L"), picture("JPEG", "CMYK"), picture("WEBP"), picture("WEBP", "RGBA")]
LYING = Image.Exif()
LYING[0x0112] = 6
PICTURES += [picture("JPEG", exif=LYING), picture("JPEG", exif=LYING, dpi=(72, 72)), picture("PNG", exif=LYING)]
sizes = st.integers(0, 40) | st.sampled_from([100_000, 13_000, 2**31 - 1, 2**31, 2**32 - 1])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@fuzzed(
    "picture",
    short=250,
    long=8000,
    content=st.one_of(
        st.sampled_from(PICTURES).flatmap(mutated),
        st.builds(
            png, sizes, sizes, st.sampled_from([1, 2, 4, 8, 16, 3]), st.sampled_from([0, 2, 3, 4, 6, 1]),
            st.binary(max_size=200) | st.just(bytes(3000)), st.integers(0, 1),
        ),
        st.binary(max_size=60),
    ),
)  # fmt: skip
@example(content=png(100_000, 100_000, 8, 2, b""))
@example(content=png(13_000, 13_000, 8, 2, bytes(39_013)))
@example(content=png(1, 80_000_000, 1, 0, bytes(100)))
@example(content=png(1, 1_000_000, 8, 0, bytes(2_000_000)))
@example(content=picture("JPEG")[:-100])
def test_a_picture(folder: Path, content: bytes) -> None:
    path = folder / "a.png"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer(lambda: open_image(path), size=len(content))
    # A file of a network's own size is padded or cropped, any other resized.
    answer(lambda: as_input(path, (24, 24, 3), like_training=len(content) % 2 == 0), size=len(content))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 2**28, f"{grown:,} more for {len(content):,} bytes"
