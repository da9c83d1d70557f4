"""Before a SavedModel is loaded: what its graph would do, by the names of its operations.

A graph is a program. TensorFlow has operations that read and write files, call Python, open sockets, or map a file into
memory under the name of a constant; loading a SavedModel may run parts of it. So only operations that compute are let
through, and of those with a state the ones that hold weights. Everything else is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from guiju.errors import ModelError, StorageError
from guiju.providers.tensorflow_facts import GRAPH
from guiju.providers.tensorflow_library import import_tensorflow
from guiju.storage import read_foreign, require_plain_folder

_LARGEST_GRAPH = 1 << 30
_LARGEST_CONSTANT = 1 << 26

_COMPUTING = {
    "arguments, constants, shapes": """
        Placeholder PlaceholderWithDefault Const HostConst Identity IdentityN NoOp StopGradient
        PreventGradient Shape ShapeN Size Rank Reshape ExpandDims Squeeze EnsureShape BroadcastTo
        BroadcastArgs BroadcastGradientArgs Fill ZerosLike OnesLike Range LinSpace Cast Bitcast FakeParam
        Snapshot""",
    "weights, and calls of other functions, which are looked through as well": """
        VarHandleOp ReadVariableOp AssignVariableOp DestroyResourceOp VarIsInitializedOp VariableShape
        ResourceGather ResourceGatherNd DisableCopyOnRead PartitionedCall StatefulPartitionedCall If
        StatelessIf While StatelessWhile Case StatelessCase Switch Merge Enter Exit NextIteration LoopCond
        Assert""",
    "picking and joining": """
        Slice StridedSlice Gather GatherV2 GatherNd Concat ConcatV2 ConcatOffset Split SplitV Pack Unpack
        Tile Pad PadV2 MirrorPad Reverse ReverseV2 ReverseSequence Roll Transpose ConjugateTranspose
        InvertPermutation Where Select SelectV2 OneHot ScatterNd TensorScatterUpdate TensorScatterAdd
        TensorScatterMax TensorScatterMin TensorScatterSub DynamicPartition DynamicStitch
        ParallelDynamicStitch MatrixBandPart MatrixDiag MatrixDiagV2 MatrixDiagV3 MatrixDiagPart
        MatrixDiagPartV2 MatrixDiagPartV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 Diag DiagPart Unique
        UniqueV2 SpaceToBatchND BatchToSpaceND""",
    "products, sums, orders": """
        MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum Sum Mean Prod Max Min All Any ArgMax ArgMin
        Cumsum Cumprod CumulativeLogsumexp AddN AccumulateNV2 SegmentSum SegmentMean SegmentMax
        UnsortedSegmentSum EuclideanNorm L2Loss TopK TopKV2 NthElement LowerBound UpperBound Bucketize""",
    "number by number": """
        Add AddV2 Sub Mul Div RealDiv DivNoNan MulNoNan FloorDiv FloorMod Mod TruncateDiv TruncateMod Pow
        Square SquaredDifference Sqrt Rsqrt Reciprocal Inv Neg Abs Sign Exp Expm1 Log Log1p Xlogy Xlog1py
        Xdivy Sin Cos Tan Asin Acos Atan Atan2 Sinh Cosh Tanh Asinh Acosh Atanh Erf Erfc Erfinv Lgamma
        Digamma Floor Ceil Round Rint Maximum Minimum ClipByValue Equal NotEqual Less LessEqual Greater
        GreaterEqual ApproximateEqual LogicalAnd LogicalOr LogicalNot BitwiseAnd BitwiseOr BitwiseXor Invert
        LeftShift RightShift IsNan IsInf IsFinite""",
    "layers": """
        Relu Relu6 LeakyRelu Elu Selu Sigmoid Softplus Softsign Softmax LogSoftmax BiasAdd BiasAddV1 Conv2D
        DepthwiseConv2dNative AvgPool MaxPool MaxPoolV2 FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN
        Dequantize""",
    "their slopes, in training": """
        ReluGrad TanhGrad SigmoidGrad RsqrtGrad StridedSliceGrad""",
}
ALLOWED = frozenset(name for names in _COMPUTING.values() for name in names.split())
"""Operations that compute and do nothing else; of those with a state, the ones that hold weights."""

_SAVERS = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "StringJoin", "StaticRegexFullMatch"}
"""Every SavedModel has a function that saves and one that restores, which nothing calls that is used here."""

_OBJECTS = ("user_object", "function", "bare_concrete_function", "variable", "constant", "captured_tensor")


def require_harmless(folder: Path) -> Any:
    """Read saved_model.pb and see that its graph only computes; its MetaGraphDef.

    Raises:
        ModelError: there is none, it is damaged or of TensorFlow 1, or an operation or object in it may do more than
            compute; it is named.
    """
    try:
        for place in (folder, folder / "variables", folder / "assets"):
            if place.exists():
                require_plain_folder(place)
        data = read_foreign(folder / GRAPH, _LARGEST_GRAPH)
    except StorageError as problem:
        raise ModelError(f"{folder} is no SavedModel that can be trusted: {problem}") from None
    graph = _parse(data, folder / GRAPH)
    used = _used_functions(graph)
    library = [(function.signature.name, function.node_def) for function in graph.graph_def.library.function]
    if len(dict(library)) < len(library):
        raise ModelError(f"{folder} is not loaded: two of its functions have the same name, so neither can be checked")
    for name, nodes in (("", graph.graph_def.node), *library):
        allowed = ALLOWED | _SAVERS if name and name not in used else ALLOWED
        for node in nodes:
            _require_size(node, folder)
            if node.op not in allowed:
                where = f"its function {name}" if name else "its graph"
                raise ModelError(
                    f"{folder} is not loaded: {where} has the operation {node.op}, which is not among those that only "
                    f"compute; it could read or write files, or run code. Save the model without it, or convert the "
                    f"weights with the program that made them"
                )
    return graph


def _parse(data: bytes, path: Path) -> Any:
    import_tensorflow()
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(data)
    except (DecodeError, RecursionError) as problem:
        raise ModelError(f"{path} is damaged: {problem}. Copy or download it again") from None
    if len(saved.meta_graphs) != 1 or not saved.meta_graphs[0].HasField("object_graph_def"):
        raise ModelError(
            f"{path} holds {len(saved.meta_graphs)} graphs without objects, as TensorFlow 1 saved them. Load it and "
            f"save it with tf.saved_model.save of TensorFlow 2"
        )
    graph = saved.meta_graphs[0]
    for node in graph.object_graph_def.nodes:
        kind = node.WhichOneof("kind")
        if kind not in _OBJECTS or node.registered_name:
            what = node.registered_name or kind or "nothing that is known"
            raise ModelError(
                f"{path} holds an object of kind {what}, which may run code or read files when loaded. A language "
                f"model needs functions and variables alone"
            )
    return graph


def _require_size(node: Any, folder: Path) -> None:
    """A few bytes can state a constant that fills the memory."""
    if node.op in ("Const", "HostConst"):
        shape = [dimension.size for dimension in node.attr["value"].tensor.tensor_shape.dim]
        if not all(size >= 0 for size in shape) or math.prod(shape) > _LARGEST_CONSTANT:
            raise ModelError(f"{folder} is not loaded: its constant {node.name[:200]} has the shape {shape}")


def _used_functions(graph: Any) -> set[str]:
    """Every function that an object names, all that those call, and those that may come in another one's place."""
    objects, library = graph.object_graph_def, graph.graph_def.library.function
    waiting = set(objects.concrete_functions)
    waiting |= {function.signature.name for function in library if "api_implements" in function.attr}
    for node in objects.nodes:
        waiting |= {*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name}
    calls = {function.signature.name: set(_called(function.node_def)) for function in library}
    used: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting |= calls.get(name, set())
    return used


def _called(nodes: Iterable[Any]) -> Iterator[str]:
    for node in nodes:
        for value in node.attr.values():
            yield value.func.name
            yield from (function.name for function in value.list.func)
