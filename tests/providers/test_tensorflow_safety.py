"""A SavedModel is a program: what may do more than compute is refused by name before TensorFlow sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from guiju.errors import ModelError
from guiju.providers import load
from guiju.providers.tensorflow_safety import _SAVERS, ALLOWED, require_harmless


@pytest.fixture
def target(tmp_path) -> Path:
    """What an evil graph reads or writes."""
    (tmp_path / "secret.txt").write_text("the secret")
    return tmp_path


def save(tf, folder: Path, act) -> Path:
    """A model of the right signature that does one thing more."""
    module = tf.Module()
    module.table = tf.Variable(tf.zeros((8, 8)))

    def look_up(tokens):
        with tf.control_dependencies([act(module)]):
            return {"logits": tf.gather(module.table, tokens)}

    function = tf.function(look_up).get_concrete_function(tf.TensorSpec((None, None), tf.int32, name="input_ids"))
    tf.saved_model.save(module, str(folder / "model"), signatures=function)
    return folder / "model"


EVIL = {
    "ReadFile": lambda tf, place: tf.io.read_file(str(place / "secret.txt")),
    "WriteFile": lambda tf, place: tf.io.write_file(str(place / "written.txt"), "x"),
    "MatchingFiles": lambda tf, place: tf.io.matching_files(str(place / "*")),
    "PrintV2": lambda tf, place: tf.raw_ops.PrintV2(input="x", output_stream=f"file://{place}/written.txt"),
    "EagerPyFunc": lambda tf, place: tf.py_function(lambda: (place / "written.txt").write_text("x"), [], tf.int32),
    "PyFunc": lambda tf, place: tf.numpy_function(lambda: 1, [], tf.int64),
    "ImmutableConst": lambda tf, place: tf.raw_ops.ImmutableConst(
        dtype=tf.uint8, shape=(4,), memory_region_name=str(place / "secret.txt")
    ),
    "RestoreV2": lambda tf, place: tf.raw_ops.RestoreV2(
        prefix=str(place / "x"), tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
    )[0],
    "SaveV2": lambda tf, place: tf.raw_ops.SaveV2(
        prefix=str(place / "written.txt"), tensor_names=["a"], shape_and_slices=[""], tensors=[tf.zeros(3)]
    ),
    "TextLineDataset": lambda tf, place: tf.raw_ops.TextLineDataset(
        filenames=[str(place / "secret.txt")], compression_type="", buffer_size=9
    ),
}


@pytest.mark.parametrize("name", EVIL)
def test_an_operation_that_does_more_than_compute_is_refused_by_name(name, tensorflow, target):
    folder = save(tensorflow, target, lambda _: EVIL[name](tensorflow, target))
    with pytest.raises(ModelError, match=rf"has the operation {name}, which is not among those that only compute"):
        load(f"tf:{folder}")
    assert not (target / "written.txt").exists()


def test_the_graph_that_is_refused_would_have_done_it(tensorflow, target):
    """The control: TensorFlow alone runs it."""
    tf = tensorflow
    folder = save(tf, target, lambda _: EVIL["WriteFile"](tf, target))
    tf.saved_model.load(str(folder)).signatures["serving_default"](input_ids=tf.constant([[1]]))
    assert (target / "written.txt").read_text() == "x"


def test_what_is_called_or_hidden_in_a_branch_is_seen_too(tensorflow, target):
    tf = tensorflow

    @tf.function
    def inner():
        return tf.io.read_file(str(target / "secret.txt"))

    def branch(module):
        return tf.cond(module.table[0, 0] > 5, lambda: inner(), lambda: tf.constant(""))

    folder = save(tf, target, branch)
    with pytest.raises(ModelError, match=r"its function \S+ has the operation ReadFile"):
        load(f"tf:{folder}")


def test_savers_may_stand_where_nothing_calls_them_and_nowhere_else(tensorflow, target):
    """Every SavedModel has them; a signature that reaches one is refused, however deep."""
    tf = tensorflow
    require_harmless(save(tf, target / "plain", lambda _: tf.no_op()))

    @tf.function
    def inner():
        return EVIL["RestoreV2"](tf, target)

    folder = save(tf, target / "evil", lambda _: inner())
    with pytest.raises(ModelError, match="operation RestoreV2"):
        require_harmless(folder)


def test_a_table_that_reads_a_file_when_it_is_loaded_is_refused(tensorflow, target):
    tf = tensorflow
    words = tf.lookup.TextFileInitializer(str(target / "secret.txt"), tf.string, 0, tf.int64, 1)

    def look_up(module):
        module.words = tf.lookup.StaticHashTable(words, 0)
        return module.words.lookup(tf.constant("x"))

    (target / "secret.txt").write_text("the\t1\n")
    with pytest.raises(ModelError, match=r"an object of kind tf\.StaticHashTable"):
        load(f"tf:{save(tf, target, look_up)}")


def test_a_model_of_tensorflow_1_is_refused_with_the_way_out(tensorflow, tmp_path):
    v1 = tensorflow.compat.v1
    with tensorflow.Graph().as_default(), v1.Session() as session:
        ids = v1.placeholder(tensorflow.int32, (None, None))
        logits = tensorflow.one_hot(ids, 8)
        builder = v1.saved_model.Builder(str(tmp_path / "model"))
        signature = v1.saved_model.predict_signature_def({"ids": ids}, {"logits": logits})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    with pytest.raises(ModelError, match="as TensorFlow 1 saved them"):
        load(f"tf:{tmp_path / 'model'}")


def test_a_graph_that_is_cut_off_or_flipped_is_refused_or_only_computes(tensorflow, target):
    folder = save(tensorflow, target, lambda _: tensorflow.no_op())
    file = folder / "saved_model.pb"
    whole = file.read_bytes()
    for place in range(0, len(whole), 41):
        for data in (whole[:place], whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]):
            file.write_bytes(data)
            try:
                graph = require_harmless(folder)
            except ModelError:
                continue
            nodes = [*graph.graph_def.node, *(n for f in graph.graph_def.library.function for n in f.node_def)]
            assert {node.op for node in nodes} <= ALLOWED | _SAVERS


def rewritten(folder: Path, change) -> Path:
    """The same with its graph changed by hand."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    change(saved.meta_graphs[0].graph_def.library.function)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


def test_a_constant_that_would_fill_the_memory_is_refused(tensorflow, target):
    def grow(functions):
        node = next(n for f in functions for n in f.node_def if n.op == "Const")
        node.attr["value"].tensor.tensor_shape.ClearField("dim")
        for _ in range(3):
            node.attr["value"].tensor.tensor_shape.dim.add(size=100_000)

    folder = rewritten(save(tensorflow, target, lambda _: tensorflow.no_op()), grow)
    with pytest.raises(ModelError, match=r"its constant \S+ has the shape \[100000, 100000, 100000\]"):
        require_harmless(folder)


def test_a_saver_that_may_come_in_another_functions_place_is_refused(tensorflow, target):
    """TensorFlow exchanges functions that are said to implement the same thing."""

    def offer(functions):
        next(f for f in functions if "traced_save" in f.signature.name).attr["api_implements"].s = b"look_up"

    folder = rewritten(save(tensorflow, target, lambda _: tensorflow.no_op()), offer)
    with pytest.raises(ModelError, match=r"traced_save_\d+ has the operation"):
        require_harmless(folder)


def test_two_functions_of_one_name_are_refused(tensorflow, target):
    folder = save(tensorflow, target, lambda _: tensorflow.no_op())
    rewritten(folder, lambda functions: functions.add().CopyFrom(functions[0]))
    with pytest.raises(ModelError, match="two of its functions have the same name"):
        require_harmless(folder)


def test_a_link_out_of_the_folder_is_refused(tensorflow, target):
    folder = save(tensorflow, target, lambda _: tensorflow.no_op())
    data = folder / "variables" / "variables.data-00000-of-00001"
    data.rename(target / "elsewhere")
    data.symlink_to(target / "elsewhere")
    with pytest.raises(ModelError, match="a link out of its folder"):
        require_harmless(folder)


def test_only_operations_that_exist_are_let_through_and_of_those_with_a_state_only_weights_and_calls(tensorflow):
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    listed = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    known = {definition.name: definition for definition in op_def_pb2.OpList.FromString(listed).op}
    assert set(known) >= ALLOWED | _SAVERS
    stateful = {name for name in ALLOWED if known[name].is_stateful}
    assert stateful == {
        *("VarHandleOp", "ReadVariableOp", "AssignVariableOp", "DestroyResourceOp", "VarIsInitializedOp"),
        *("VariableShape", "ResourceGather", "ResourceGatherNd", "DisableCopyOnRead"),
        *("StatefulPartitionedCall", "If", "While", "Case", "Assert"),
    }
    strings = {name for name in ALLOWED if any(argument.type == 7 for argument in known[name].input_arg)}
    assert strings == set(), "an operation that takes names could reach files"
