"""Classification and regression results: which outputs a signature offers for them, and their tensors as messages.

Checks come in upstream's order and words.
"""

from collections.abc import Mapping
from typing import Any

from stack.model_server import tensors
from stack.model_server.errors import ServingError
from stack.model_server.servable import Array

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


def classify_outputs(signature: Any, *, check_method: bool) -> list[str]:
    """`classes`, `scores` or both: what a classification's signature offers; ServingError when it is none."""
    _check_method(signature, CLASSIFY, "classification", check=check_method)
    if len(signature.inputs) != 1:
        raise ServingError.invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise ServingError.invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise ServingError.precondition(f"No classification inputs found in SignatureDef: {signature}")
    found = [key for key in ("classes", "scores") if key in signature.outputs]
    if not found:
        raise ServingError.precondition(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature}"
        )
    return found


def regress_outputs(signature: Any, *, check_method: bool) -> list[str]:
    """`outputs`, when the signature is a regression's; else ServingError."""
    _check_method(signature, REGRESS, "regression", check=check_method)
    if len(signature.inputs) != 1:
        raise ServingError.invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise ServingError.invalid("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise ServingError.precondition(f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise ServingError.precondition(f"No regression outputs found in SignatureDef: {signature}")
    return ["outputs"]


def write_classes(signature: Any, count: int, out: Mapping[str, Array], *, into: Any) -> None:
    """Write `[count, classes]` labels and scores as Classifications; a missing label is "", a missing score 0."""
    for key, dtype in (("classes", "DT_STRING"), ("scores", "DT_FLOAT")):
        if key not in out:
            continue
        array = out[key]
        if array.ndim != 2:
            raise ServingError.invalid(f"Expected Tensor shape: [batch_size num_classes] but got {shape_text(array)}")
        sent = tensors.type_name(signature.outputs[key].dtype)
        if f"DT_{sent.upper()}" != dtype:
            raise ServingError.invalid(f"Expected {key} Tensor of {dtype}. Got: DT_{sent.upper()}")
        if len(array) != count:
            raise ServingError.invalid(f"Expected {key} output batch size of {count}. Got: {len(array)}")
    sizes = [array.shape[1] for array in out.values()]
    if len(set(sizes)) > 1:
        raise ServingError.invalid(
            f"Tensors class and score should match in dim_size(1). Got {out['classes'].shape[1]} vs. "
            f"{out['scores'].shape[1]}"
        )
    labels = out["classes"].tolist() if "classes" in out else [[b""] * sizes[0]] * count
    scores = out["scores"].tolist() if "scores" in out else [[0.0] * sizes[0]] * count
    for row_labels, row_scores in zip(labels, scores, strict=True):
        classes = into.classifications.add().classes
        for label, score in zip(row_labels, row_scores, strict=True):
            classes.add(label=label, score=score)


def write_regressions(signature: Any, count: int, out: Mapping[str, Array], *, into: Any) -> None:
    """Write `[count]` or `[count, 1]` floats as Regressions."""
    array = out["outputs"]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise ServingError.invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {shape_text(array)}"
        )
    if len(array) != count:
        raise ServingError.invalid(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    sent = tensors.type_name(signature.outputs["outputs"].dtype).upper()
    if sent != "FLOAT":
        raise ServingError.invalid(f"Expected output Tensor of DT_FLOAT.  Got: DT_{sent}")
    for value in array.ravel().tolist():
        into.regressions.add().value = value


def shape_text(array: Array) -> str:
    """A shape as TensorFlow prints it, e.g. `[2,3]`."""
    return "[" + ",".join(map(str, array.shape)) + "]"


def _check_method(signature: Any, method: str, kind: str, *, check: bool) -> None:
    if check and signature.method_name != method:
        raise ServingError.invalid(
            f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}"
        )
