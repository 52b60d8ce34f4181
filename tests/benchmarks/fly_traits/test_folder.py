import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refusal

from benchmarks.fly_traits.cutting import cut, cut_picture, fitted, resampled
from benchmarks.fly_traits.folder import COLUMNS, POINT_COLUMNS, read_folder
from benchmarks.fly_traits.generator import crop_squares, draw_picture

YOLO = "0 0.5 0.25 0.5 0.5\n0 0.25 0.75 0.1 0.2\n"
COCO = {
    "images": [{"id": 7, "file_name": "a.png"}],
    "annotations": [{"image_id": 7, "bbox": [10, 0, 20, 15]}, {"image_id": 7, "bbox": [8, 19.5, 4, 6]}],
}
TABLE = ",".join(COLUMNS) + "\na.png,1,long,red,\n"


def png(width: int = 40, height: int = 30) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_yolo_and_coco_boxes_with_a_table_are_the_same_pictures(tmp_path: Path) -> None:
    yolo = write(tmp_path / "yolo", {"images/a.png": png(), "labels/a.txt": YOLO, "traits.csv": TABLE})
    coco = write(tmp_path / "coco", {"a.png": png(), "annotations.json": json.dumps(COCO), "traits.csv": TABLE})
    first, second = read_folder(yolo)["images/a.png"], read_folder(coco)["a.png"]
    for one, two in zip(first, second, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)
    np.testing.assert_allclose(first.boxes, [(10, 0, 20, 15), (8, 19.5, 4, 6)], rtol=1e-6)
    np.testing.assert_array_equal(first.traits, [(np.nan,) * 3, (1, 1, np.nan)])
    assert np.isnan(first.key_points).all() and first.pixels.shape == (30, 40, 3)


def test_key_points_of_the_table_are_in_pixels(tmp_path: Path) -> None:
    header = ",".join((*COLUMNS, *POINT_COLUMNS))
    rows = ["a.png,0,small,white,male," + ",".join(map(str, range(8))), "a.png,1,,,," + "," * 7]
    folder = write(tmp_path, {"a.png": png(), "a.txt": YOLO, "traits.csv": "\n".join((header, *rows))})
    points = read_folder(folder)["a.png"].key_points
    np.testing.assert_array_equal(points[0], np.arange(8.0).reshape(4, 2))
    assert np.isnan(points[1]).all()


WRONG = {
    "no pictures": ({"a.txt": YOLO}, "must hold pictures"),
    "no boxes": ({"a.png": png()}, "Received: neither"),
    "both kinds of boxes": ({"a.png": png(), "a.txt": YOLO, "c.json": json.dumps(COCO)}, "Received: c.json, 1 .txt"),
    "two pictures of a name": ({"x/a.png": png(), "y/a.jpg": png(), "a.txt": YOLO}, "names of their own"),
    "a damaged picture": ({"a.png": b"no picture", "a.txt": YOLO}, "a.png"),
    "half a picture": ({"a.png": png()[:100], "a.txt": YOLO}, "a.png"),
    "four numbers": ({"a.png": png(), "a.txt": "0 0.5 0.5 0.1"}, "Received: '0 0.5 0.5 0.1'"),
    "words": ({"a.png": png(), "a.txt": "fly 0.5 0.5 wide 0.1"}, "0..1"),
    "pixels for shares": ({"a.png": png(), "a.txt": "0 20 15 10 10"}, "0..1"),
    "a box beyond the picture": ({"a.png": png(), "a.txt": "0 0.9 0.5 0.5 0.1"}, "within its 40 x 30 pixels"),
    "an empty box": ({"a.png": png(), "a.txt": "0 0.5 0.5 0 0.1"}, "within its 40 x 30 pixels"),
    "no JSON": ({"a.png": png(), "c.json": "{"}, "COCO's JSON"),
    "no annotations": ({"a.png": png(), "c.json": '{"images": []}'}, "COCO's JSON"),
    "a list": ({"a.png": png(), "c.json": "[1]"}, "COCO's JSON"),
    "another picture": ({"a.png": png(), "c.json": json.dumps(COCO).replace("a.png", "b.png")}, "image_id=7"),
    "a list for an id": (
        {"a.png": png(), "c.json": json.dumps(COCO | {"annotations": [{"image_id": [7], "bbox": [1, 1, 1, 1]}]})},
        "image_id=",
    ),
    "a short bbox": (
        {"a.png": png(), "c.json": json.dumps(COCO | {"annotations": [{"image_id": 7, "bbox": [1]}]})},
        "bbox of four numbers",
    ),
    "no columns": ({"a.png": png(), "a.txt": YOLO, "traits.csv": "picture,box\n"}, "must have the columns"),
    "a short row": ({"a.png": png(), "a.txt": YOLO, "traits.csv": TABLE + "a.png,0\n"}, "5 values a row"),
    "no such box": ({"a.png": png(), "a.txt": YOLO, "traits.csv": TABLE.replace(",1,", ",2,")}, "from 0 to 1"),
    "no number of a box": ({"a.png": png(), "a.txt": YOLO, "traits.csv": TABLE.replace(",1,", ",-1,")}, "from 0 to 1"),
    "a box twice": ({"a.png": png(), "a.txt": YOLO, "traits.csv": TABLE + "a.png,1,,,\n"}, "two of box 1"),
    "no such picture": ({"a.png": png(), "a.txt": YOLO, "traits.csv": TABLE.replace("a.png", "b.png")}, "'b.png'"),
    "no such wing": ({"a.png": png(), "a.txt": YOLO, "traits.csv": TABLE.replace("long", "Long")}, "small or long"),
    "half of the key points": (
        {
            "a.png": png(),
            "a.txt": YOLO,
            "traits.csv": ",".join((*COLUMNS, *POINT_COLUMNS)) + "\na.png,0,,,,1,2" + "," * 6,
        },
        "all key points",
    ),
}


@pytest.mark.parametrize(("files", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_folder_is_refused_in_one_sentence(tmp_path: Path, files: dict[str, str | bytes], reason: str) -> None:
    assert reason in refusal(read_folder, write(tmp_path, files))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "There is none" in refusal(read_folder, tmp_path / "absent")


def test_a_region_at_its_own_size_is_its_pixels_and_edges_go_on_beyond_the_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(resampled(pixels, (4, 6, 10, 8), 8, 10), pixels[6:14, 4:14])
    beyond = resampled(pixels, (-5, -5, 10, 10), 10, 10)
    np.testing.assert_array_equal(beyond[:6, :6], np.broadcast_to(pixels[0, 0], (6, 6, 3)))
    np.testing.assert_array_equal(beyond[5:, 5:], pixels[:5, :5])


def test_a_region_that_shrinks_keeps_its_mean() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    shrunk = resampled(pixels, (0, 0, 64, 64), 8, 8)
    assert abs(float(shrunk.mean()) - float(pixels.mean())) < 2 and shrunk.std() < 0.4 * pixels.std()


def test_a_fitted_picture_keeps_its_proportions() -> None:
    square, factor = fitted(np.full((30, 60, 3), 200, np.uint8), 16)
    assert factor == 16 / 60
    np.testing.assert_array_equal(square[:8], 200)
    np.testing.assert_array_equal(square[8:], 128)


def test_crops_show_the_key_points_of_their_flies() -> None:
    picture = draw_picture(2, 320, 12)
    crops = cut_picture(picture, 48)
    x, y, side = crop_squares(picture.boxes).T[..., None]
    np.testing.assert_allclose(crops.key_points * side[..., None] + np.stack((x, y), -1), picture.key_points, atol=1e-3)
    np.testing.assert_array_equal(crops.pixels, cut(picture.pixels, picture.boxes, 48))
    assert crops.pixels.shape == (12, 48, 48, 3) and cut(picture.pixels, picture.boxes[:0], 48).shape == (0, 48, 48, 3)
