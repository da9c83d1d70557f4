"""TensorFlow's checkpoints are read and written as TensorFlow itself does it, and damaged ones are refused."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guiju.errors import ModelError
from guiju.model.crc32c import crc32c, masked_crc32c
from guiju.model.sorted_table import MAX_FILE_BYTES, MAX_NAME_BYTES, read_table, table_bytes, varint
from guiju.model.tensor_bundle import TensorBundle, write_bundle


def numbers(shape: tuple[int, ...], kind: str = "float32", seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(shape) * 100
    return drawn.astype(kind)


SAMPLE = {
    "model/wte": numbers((3, 2)),
    "model/h0/attn/c_attn/w": numbers((1, 2, 6), seed=1),
    "model/h10/ln_1/g": numbers((2,), seed=2),
    "model/h2/ln_1/g": numbers((2,), seed=3),
    "half": numbers((3, 2), "float16"),
    "double": numbers((1,), "float64"),
    "steps": np.array(12345678901, dtype=np.int64),
    "empty": numbers((0, 3)),
    "数": numbers((2,), seed=4),
}


def written(folder: Path, tensors: dict[str, np.ndarray] | None = None) -> Path:
    write_bundle(folder / "model.ckpt", (SAMPLE if tensors is None else tensors).items())
    return folder / "model.ckpt"


def require_equal(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == wanted.dtype and found.shape == wanted.shape and found.tobytes() == wanted.tobytes()


def test_the_checksum_is_that_of_the_standard():  # RFC 3720, B.4
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@pytest.mark.parametrize("size", [256, 257, 259, 16383, 16384, 16385, 16387, 16388, 40003, 2 * 16384 + 3])
def test_the_checksum_of_much_is_that_of_its_parts(size):
    data = np.random.default_rng(size).bytes(size)
    by_parts = 0
    for begin in range(0, size, 256):  # each in the plain loop
        by_parts = crc32c(data[begin : begin + 256], by_parts)
    assert crc32c(data) == by_parts


def test_what_is_written_is_read_alike(tmp_path):
    bundle = TensorBundle(written(tmp_path))
    assert set(bundle.entries) == set(SAMPLE)
    for name, tensor in SAMPLE.items():
        require_equal(bundle.load(name), tensor)


def test_tensorflow_reads_what_is_written_here(tensorflow, tmp_path):
    reader = tensorflow.train.load_checkpoint(str(written(tmp_path)))
    assert set(reader.get_variable_to_shape_map()) == set(SAMPLE)
    for name, tensor in SAMPLE.items():
        require_equal(np.asarray(reader.get_tensor(name)), tensor)


def test_tensorflow_finds_many_names_over_several_blocks(tensorflow, tmp_path):
    tensors = {f"model/{'long/' * 60}{number}": np.float32([number]) for number in range(3000)}
    reader = tensorflow.train.load_checkpoint(str(written(tmp_path, tensors)))
    for name in list(tensors)[::97]:
        require_equal(reader.get_tensor(name), tensors[name])
    assert TensorBundle(tmp_path / "model.ckpt").shapes.keys() == tensors.keys()


def test_what_tensorflow_writes_is_read_alike(tensorflow, tmp_path):
    names, values = list(SAMPLE), list(SAMPLE.values())
    tensorflow.raw_ops.SaveV2(
        prefix=str(tmp_path / "model.ckpt"), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values
    )
    bundle = TensorBundle(tmp_path / "model.ckpt")
    assert set(bundle.entries) == set(SAMPLE)
    for name, tensor in SAMPLE.items():
        require_equal(bundle.load(name), tensor)


def test_bfloat16_of_tensorflow_is_read_as_float32(tensorflow, tmp_path):
    tensor = tensorflow.cast(SAMPLE["model/wte"], tensorflow.bfloat16)
    tensorflow.raw_ops.SaveV2(
        prefix=str(tmp_path / "model.ckpt"), tensor_names=["w"], shape_and_slices=[""], tensors=[tensor]
    )
    require_equal(TensorBundle(tmp_path / "model.ckpt").load("w"), tensorflow.cast(tensor, "float32").numpy())


def test_a_checkpoint_in_several_data_files_is_read(tensorflow, tmp_path):
    parts = [list(SAMPLE)[::2], list(SAMPLE)[1::2]]
    prefixes = [str(tmp_path / f"part{number}") for number in range(2)]
    for prefix, names in zip(prefixes, parts, strict=True):
        tensorflow.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[SAMPLE[name] for name in names],
        )
    tensorflow.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=prefixes, destination_prefix=str(tmp_path / "model.ckpt"))
    bundle = TensorBundle(tmp_path / "model.ckpt")
    assert bundle.shards == 2
    for name, tensor in SAMPLE.items():
        require_equal(bundle.load(name), tensor)
    bundle.file(1).unlink()
    with pytest.raises(ModelError, match=r"model\.ckpt\.data-00001-of-00002 cannot be read"):
        TensorBundle(tmp_path / "model.ckpt")


def test_text_and_slices_of_tensorflow_are_refused_by_name(tensorflow, tmp_path):
    tensorflow.raw_ops.SaveV2(
        prefix=str(tmp_path / "model.ckpt"),
        tensor_names=["words", "part"],
        shape_and_slices=["", "4 2 0,2:0,2"],
        tensors=[tensorflow.constant(["a", "b"]), numbers((2, 2))],
    )
    bundle = TensorBundle(tmp_path / "model.ckpt")
    with pytest.raises(ModelError, match=r"tensor words .* is of type string"):
        bundle.load("words")
    with pytest.raises(ModelError, match=r"tensor part .* is stored in slices"):
        bundle.load("part")


def load_all(prefix: Path) -> dict[str, np.ndarray]:
    bundle = TensorBundle(prefix)
    return {name: bundle.load(name) for name in bundle.entries}


def test_a_cut_off_file_is_refused_at_every_length(tmp_path):
    prefix = written(tmp_path)
    for ending in (".index", ".data-00000-of-00001"):
        file = prefix.with_name(prefix.name + ending)
        whole = file.read_bytes()
        for length in range(len(whole)):
            os.truncate(file, length)
            with pytest.raises(ModelError, match=r"model\.ckpt"):
                load_all(prefix)
            file.write_bytes(whole)


def test_a_flipped_bit_is_refused_or_changes_nothing_anywhere(tmp_path):
    prefix = written(tmp_path)
    harmless = 0
    for ending in (".index", ".data-00000-of-00001"):
        file = prefix.with_name(prefix.name + ending)
        whole = file.read_bytes()
        for place in range(len(whole)):
            changed = bytearray(whole)
            changed[place] ^= 1 << place % 8
            file.write_bytes(changed)
            with contextlib.suppress(ModelError):
                found = load_all(prefix)
                harmless += 1
                assert found.keys() == SAMPLE.keys()
                for name, tensor in found.items():
                    require_equal(tensor, SAMPLE[name])
        file.write_bytes(whole)
    assert harmless <= 36  # the footer's padding


def entry(**changed: int) -> bytes:
    """A tensor's entry as the format has it, with numbers of one's own."""
    fields = {"type": 1, "rows": 2, "shard": 0, "offset": 0, "size": 8, **changed}
    dimension = b"\x08" + varint(fields["rows"] % (1 << 64))
    shape = b"\x12" + varint(len(dimension)) + dimension
    parts = [b"\x08", varint(fields["type"]), b"\x12", varint(len(shape)), shape]
    for tag, name in ((0x18, "shard"), (0x20, "offset"), (0x28, "size")):
        parts += [bytes([tag]), varint(fields[name] % (1 << 64))]
    return b"".join(parts) + b"\x35" + fields.get("checksum", 0).to_bytes(4, "little")


@contextlib.contextmanager
def frugal() -> Iterator[None]:
    """No more memory is taken within it than for the largest index."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MAX_FILE_BYTES + 500_000
    finally:
        tracemalloc.stop()


HEADER = bytes([0x08, 1, 0x1A, 2, 0x08, 1])


@pytest.mark.parametrize(("values", "message"), [
    ({b"w": entry()}, "has no header"),
    ({b"": b"\x08\x00", b"w": entry()}, "states 0 data files"),
    ({b"": b"\x08\xa0\x8d\x06", b"w": entry()}, "states 100000 data files"),
    ({b"": HEADER + b"\x10\x01", b"w": entry()}, "big-endian"),
    ({b"": HEADER + b"\x0a\xff"}, "header that cannot be read"),
    ({b"": HEADER, b"w": entry(rows=-1)}, "tensor w cannot be read: dimension 0 is -1"),
    ({b"": HEADER, b"w": entry(rows=1 << 50)}, r"its shape \(1125899906842624,\) is larger"),
    ({b"": HEADER, b"w": entry(rows=3)}, r"tensor w of shape \(3,\) takes 12 bytes, but 8 are stated"),
    ({b"": HEADER, b"w": entry(size=-8)}, "takes 8 bytes, but 18446744073709551608 are stated"),
    ({b"": HEADER, b"w": entry(rows=1 << 40, size=4 << 40)}, "is 8 bytes long, but tensor w is said to be 4398"),
    ({b"": HEADER, b"w": entry(offset=1)}, "8 bytes long, but tensor w is said to be 8 bytes at byte 1"),
    ({b"": HEADER, b"w": entry(offset=-8)}, "at byte 18446744073709551608"),
    ({b"": HEADER, b"w": entry(shard=1)}, "tensor w is in data file 1, but there are 1"),
    ({b"": HEADER, b"v": entry(), b"w": entry()}, "tensors v and w lie over each other"),
    ({b"": HEADER, b"w": entry()}, "tensor w in .* is damaged: its checksum is"),
    ({b"": HEADER, b"w": entry(type=7)}, "tensor w in .* is of type string"),
    ({b"": HEADER, b"w": entry(type=99)}, "tensor w in .* is of type number 99"),
    ({b"": HEADER, b"\xff": entry()}, "names a tensor b'.xff', which is not UTF-8"),
    ({b"": HEADER, b"w": b"\x08"}, "tensor w cannot be read: a number is cut off"),
    ({b"": HEADER, b"w": b"\x0b"}, "tensor w cannot be read: field 1 is of kind 3"),
    ({b"": HEADER, b"w": b"\x08" + b"\xff" * 10 + b"\x01"}, "longer than 64 bits"),
    ({b"": HEADER, b"w": b"\x12\x02\x18\x01"}, "its shape is not known"),
    ({b"": HEADER, b"w": b"\x12\x7f"}, "field 2 of 127 bytes is cut off"),
    ({b"": HEADER, b"w": b"\x0a\x01\x01"}, "field 1 of b"),
    ({b"": HEADER, b"w": entry() + b"\x3a\x00"}, "stored in slices"),
    ({b"": HEADER, b"w": b"\x12" + varint(34) + b"\x12\x00" * 17}, "more than 16 dimensions"),
])  # fmt: skip
def test_an_index_that_states_what_cannot_be_is_refused_with_the_value(values, message, tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(table_bytes(values))
    (tmp_path / "model.ckpt.data-00000-of-00001").write_bytes(bytes(8))
    with frugal(), pytest.raises(ModelError, match=message):
        load_all(tmp_path / "model.ckpt")


def block(content: bytes, kind: int = 0) -> bytes:
    return content + bytes([kind]) + masked_crc32c(content + bytes([kind])).to_bytes(4, "little")


def entries(*parts: tuple[int, bytes, bytes]) -> bytes:
    """A block's content: (bytes shared with the name before, new bytes, value) each."""
    data = b"".join(
        varint(shared) + varint(len(new)) + varint(len(value)) + new + value for shared, new, value in parts
    )
    return data + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def file_of(index_at: tuple[int, int], *blocks: bytes) -> bytes:
    """Blocks, and a footer that leads to an index; behind them the statistics, which are empty."""
    before, statistics = b"".join(blocks), entries()
    places = (len(before), len(statistics), *index_at)
    footer = b"".join(map(varint, places)).ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")
    return before + block(statistics) + footer


NAMES = block(entries((0, b"a", b"1")))
AT_NAMES = varint(0) + varint(len(NAMES) - 5)


def with_index(content: bytes) -> bytes:
    return file_of((len(NAMES), len(content)), NAMES, block(content))


@pytest.mark.parametrize(("data", "message"), [
    (b"", "too short"),
    (bytes(100), "no index of a TensorFlow checkpoint"),
    (file_of((1 << 40, 100)), "a block of 100 bytes at byte 1099511627776"),
    (file_of((0, 1 << 63)), "a block of 9223372036854775808 bytes at byte 0"),
    (file_of((0, 2), block(b"ab")), "a block of 2 bytes cannot hold"),
    (file_of((0, 4), block(b"\xff\xff\xff\xff")), "cannot hold 4294967295 restart points"),
    (file_of((0, len(NAMES) - 5), NAMES[:-1] + b"x"), "the checksum of its block at byte 0"),
    (file_of((0, 13), block(entries((0, b"a", b"1")), 1)), "compressed .snappy., which"),
    (file_of((0, 13), block(entries((0, b"a", b"1")), 9)), "compressed .kind 9., which"),
    (with_index(entries((0, b"z", AT_NAMES), (0, b"zz", AT_NAMES))), "block at byte 0 lies over the one before"),
    (with_index(entries((0, b"z", varint(len(NAMES)) + varint(99)))), "a block of 99 bytes"),
    (with_index(entries((0, b"A", AT_NAMES))), "stands in a block that is said to end with b'A'"),
    (with_index(entries((0, b"z", b"\x80"))), "a number is cut off"),
    (with_index(entries((9, b"z", AT_NAMES))), "a name shares 9 bytes with one of 0"),
    (with_index(entries((0, b"z" * (MAX_NAME_BYTES + 1), AT_NAMES))), "a name is 513 bytes long"),
    (with_index(b"\x00\x01\x7fz" + bytes(4) + b"\1\0\0\0"), "a name of 1 new bytes and a value of 127 do not fit"),
])  # fmt: skip
def test_a_table_that_leads_astray_is_refused(data, message, tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_table(tmp_path / "model.ckpt.index")


def test_a_block_that_names_itself_is_refused(tmp_path):
    content = entries((0, b"z", varint(0) + varint(13)))
    (tmp_path / "x.index").write_bytes(file_of((0, len(content)), block(content)))
    with pytest.raises(ModelError, match=r"stands in a block|header|cannot hold|checksum|block of"):
        TensorBundle(tmp_path / "x")


@pytest.mark.parametrize(("parts", "message"), [
    ([(0, b"b", b"1"), (0, b"a", b"2")], "does not stand in order"),
    ([(0, b"b", b"1"), (1, b"", b"2")], "does not stand in order"),
])  # fmt: skip
def test_names_out_of_order_or_twice_are_refused(parts, message, tmp_path):
    names = block(entries(*parts))
    index = entries((0, b"\xff\xff", varint(0) + varint(len(names) - 5)))
    (tmp_path / "x.index").write_bytes(file_of((len(names), len(index)), names, block(index)))
    with pytest.raises(ModelError, match=message):
        read_table(tmp_path / "x.index")


def test_an_index_too_large_for_names_is_not_read(tmp_path):
    with (tmp_path / "x.index").open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(ModelError, match="is 1099511627776 bytes long"):
        TensorBundle(tmp_path / "x")
    with pytest.raises(ModelError, match=r"nothing\.index cannot be read: No such file"):
        TensorBundle(tmp_path / "nothing")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bytes_whatever_crash_the_reader_or_fill_the_memory(tmp_path_factory, data):
    """Checksums made to fit again, so that what lies behind them is reached."""
    folder = tmp_path_factory.getbasetemp() / "bundle-fuzz"
    folder.mkdir(exist_ok=True)
    values = {b"": HEADER} if data.draw(st.booleans()) else {}
    names = st.text(min_size=0, max_size=20)
    pieces = st.one_of(st.binary(max_size=60), st.builds(entry, rows=st.integers(-4, 1 << 62), size=st.integers(0, 64)))
    values |= data.draw(st.dictionaries(names.map(str.encode), pieces, max_size=5))
    (folder / "x.index").write_bytes(table_bytes(values))
    (folder / "x.data-00000-of-00001").write_bytes(data.draw(st.binary(max_size=64)))
    with frugal(), contextlib.suppress(ModelError):
        load_all(folder / "x")
