from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refusal

from benchmarks.fly_traits.boxes import anchors, encode, overlaps
from benchmarks.fly_traits.detection import (
    BALANCE,
    BENCHMARK,
    FOCUS,
    MOST_BOXES,
    detection_loss,
    detection_score,
    load,
    padded_boxes,
    split_of,
)
from benchmarks.fly_traits.generator import draw_picture

SIZE = 64


def reference_loss(boxes: np.ndarray, output: np.ndarray) -> float:
    """The loss of one picture, anchor by anchor."""
    seen_from = anchors(SIZE, SIZE)
    iou = overlaps(seen_from, boxes)
    bests = np.argwhere(iou > iou.max(axis=0) - 1e-6)  # several, where they lie within the box
    owner = {int(index): int(box) for index, box in bests}
    loss, positives = 0.0, 0
    for index, (logit, *code) in enumerate(output.astype(np.float64)):
        box, best = int(np.argmax(iou[index])), iou[index].max()
        if index in owner:
            box, best = owner[index], 1.0
        probability = 1 / (1 + np.exp(-logit))
        if best >= 0.5:
            positives += 1
            error = np.abs(code - encode(boxes[box], seen_from[index]))
            loss += float(np.where(error < 1, error**2 / 2, error - 0.5).sum())
            loss -= BALANCE * (1 - probability) ** FOCUS * np.log(probability)
        elif best < 0.4:
            loss -= (1 - BALANCE) * probability**FOCUS * np.log(1 - probability)
    return loss / positives


def test_the_loss_is_that_of_a_loop_over_anchors() -> None:
    rng = np.random.default_rng(0)
    boxes = [np.column_stack((rng.uniform(0, 40, (count, 2)), rng.uniform(10, 34, (count, 2)))) for count in (1, 2, 5)]
    outputs = rng.normal(0, 2, (len(boxes), len(anchors(SIZE, SIZE)), 5)).astype(np.float32)
    losses = np.asarray(detection_loss(padded_boxes(boxes), outputs, SIZE))
    np.testing.assert_allclose(losses, [*map(reference_loss, boxes, outputs)], rtol=1e-4)


def test_outputs_that_are_the_truth_score_1_and_a_missed_fly_lowers_recall_alone() -> None:
    split = split_of([draw_picture(seed, SIZE, 3) for seed in range(2)])
    outputs = np.full((2, len(anchors(SIZE, SIZE)), 5), -9.0, np.float32)
    for output, padded in zip(outputs, split.y, strict=True):
        for box in padded[padded[:, 2] > 0]:
            anchor = int(np.argmax(overlaps(anchors(SIZE, SIZE), box[None])[:, 0]))
            output[anchor] = (9.0, *encode(box, anchors(SIZE, SIZE)[anchor]))
    score = detection_score(lambda x: outputs, split)
    assert (score.value, score.details["recall"], score.details["precision"]) == (1.0, 1.0, 1.0)
    outputs[0, np.argmax(outputs[0, :, 0]), 0] = -9.0
    score = detection_score(lambda x: outputs, split)
    assert (score.details["recall"], score.details["precision"]) == (5 / 6, 1.0)


def test_more_boxes_than_a_target_holds_are_refused() -> None:
    assert f"at most {MOST_BOXES}" in refusal(padded_boxes, [np.ones((MOST_BOXES + 1, 4), np.float32)])


def test_a_users_folder_becomes_parts_at_the_networks_size(tmp_path: Path) -> None:
    for index in range(6):
        Image.fromarray(np.full((100, 200, 3), 200, np.uint8)).save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text("0 0.5 0.5 0.1 0.2\n" * (index + 1))
    dataset = load(tmp_path, 0)
    assert (dataset.kind, len(dataset.train), len(dataset.validation), len(dataset.test)) == ("own", 4, 1, 1)
    np.testing.assert_allclose(dataset.train.y[0, 0], (115.2, 51.2, 25.6, 25.6), rtol=1e-5)
    assert dataset.train.x.shape == (4, 256, 256, 3)


def test_data_of_a_detector_need_a_folder_with_pictures_enough(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert "5 pictures" in refusal(load, tmp_path, 0)
    assert "synthetic" in refusal(load, None, 0)


@pytest.mark.slow
def test_a_detector_trains_becomes_integers_and_they_are_those_of_the_c(tmp_path: Path) -> None:
    import po2quant as pq
    from benchmarks.fly_traits.detector import efficientdet

    split = split_of([draw_picture(seed, SIZE, 3) for seed in range(4)])
    model = efficientdet(SIZE)
    assert not pq.check(model).obstacles
    model.compile("adam", lambda y, output: detection_loss(y, output, SIZE))
    losses = [model.train_on_batch(split.inputs(), split.y) for _ in range(4)]
    assert losses[-1] < losses[0]
    quantized = pq.quantize(model, split.inputs(), config="flat8")
    assert pq.verify(pq.freeze(quantized), split.inputs()[:1]).mismatches == 0


def test_the_benchmark_scores_larger_losses_lower() -> None:
    assert BENCHMARK.selection({"loss": 0.5}) > BENCHMARK.selection({"loss": 1.5})
