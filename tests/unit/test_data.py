"""Data: resizing, the cache, training crops, held-out crops, and the levels `folder` and `photos`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pydantic import ValidationError

from ablate.components.data import photos
from ablate.data.corpus import Corpus
from ablate.data.prepare import prepare, read_rgb
from ablate.data.resize import resize, spread
from ablate.slots import registry
from ablate.slots.data import SPLITS, DataSettings
from tests.support.command import PATIENCE, python

ROOT = Path(__file__).resolve().parents[2]


FILTERS = {"nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "area": "BOX"}


SMALL = {"crop": 16, "resize_to": 32, "heldout_size": 32, "heldout_count": 4}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)


@pytest.fixture
def pictures(tmp_path):
    """Twelve noise pictures of different sizes, some in subfolders."""
    for i in range(12):
        save(noise(40 + 5 * i, 90 - 3 * i, i), tmp_path / "pictures" / ("deep/er" if i % 3 else "") / f"{i}.png")
    return tmp_path / "pictures"


@pytest.fixture
def opened(monkeypatch):
    """The files that Pillow has been asked to open."""
    names, real = [], PIL.Image.open
    monkeypatch.setattr(PIL.Image, "open", lambda file, *rest: (names.append(str(file)), real(file, *rest))[1])
    return names


def coordinates(height, width, number):
    """A picture that says of each pixel its row, its column and the picture's number."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, number)], -1).astype(np.uint8)


@pytest.fixture
def mapped(tmp_path):
    """Settings for a folder of coordinate pictures of 20 x 30, 60 x 40 and 100 x 120, the first held out too."""
    shapes = [(20, 30), (60, 40), (100, 120)]
    for i, shape in enumerate(shapes):
        save(coordinates(*shape, i), tmp_path / "mapped" / f"{i}.png")
    save(coordinates(20, 30, 9), tmp_path / "other" / "held.png")
    folders = {"path": str(tmp_path / "mapped"), "heldout_path": str(tmp_path / "other")}
    sizes = {"crop": 12, "resize": "none", "resize_to": 16, "heldout_size": 16, "heldout_count": 2}
    return {**folders, **sizes}, shapes


@pytest.mark.parametrize("method", FILTERS)
@pytest.mark.parametrize(("shape", "expected"), [((60, 90), (24, 36)), ((101, 47), (52, 24)), ((24, 500), (24, 500))])
def test_resize_is_pillows_at_the_short_side(method, shape, expected):
    pixels = noise(*shape)
    filter_ = PIL.Image.Resampling[FILTERS[method]]
    reference = np.asarray(PIL.Image.fromarray(pixels).resize(expected[::-1], filter_))
    assert np.array_equal(resize(pixels, 24, method), reference)


def test_area_is_the_block_mean():
    pixels = noise(48, 64)
    mean = pixels.reshape(12, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(resize(pixels, 12, "area") - mean).max() <= 1  # two passes, each rounded


def test_bilinear_is_antialiased_and_nearest_is_not():
    """Halving with a triangle four pixels wide weighs 1 3 3 1; nearest keeps one pixel of each block."""
    pixels = noise(40, 40)
    weights = np.zeros((20, 40))
    for i in range(20):
        for k, weight in zip(range(2 * i - 1, 2 * i + 3), (1, 3, 3, 1), strict=True):
            if 0 <= k < 40:
                weights[i, k] = weight
    weights /= weights.sum(1, keepdims=True)
    blurred = np.einsum("ik,klc,jl->ijc", weights, pixels.astype(float), weights)
    assert np.abs(resize(pixels, 20, "bilinear") - blurred).max() <= 1.01  # two passes, each rounded
    assert np.array_equal(resize(pixels, 20, "nearest"), pixels[1::2, 1::2])


def test_nothing_is_enlarged():
    pixels = noise(20, 30)
    assert all(np.array_equal(resize(pixels, 64, method), pixels) for method in [*FILTERS, "none"])


def test_a_crop_larger_than_the_resized_picture_is_refused():
    with pytest.raises(ValidationError, match=r"resize_to \(32 px\) is smaller than crop \(64 px\)"):
        DataSettings(resize_to=32)
    assert DataSettings(resize_to=32, resize="none").crop == 64


def test_a_crop_of_the_whole_picture_is_the_resized_source(tmp_path):
    save(noise(64, 64), tmp_path / "in" / "a.png")
    save(noise(64, 64, 1), tmp_path / "out" / "b.png")
    folders = {"path": str(tmp_path / "in"), "heldout_path": str(tmp_path / "out")}
    sizes = {"crop": 32, "resize_to": 32, "heldout_size": 32, "heldout_count": 1, "flip": False}
    corpus = prepare("folder", {**folders, **sizes}, tmp_path / "cache")
    for pixels, planes in (
        (noise(64, 64), corpus.batch(1, np.random.default_rng(0))[0]),
        (noise(64, 64, 1), corpus.heldout[0]),
    ):
        reference = np.asarray(PIL.Image.fromarray(pixels).resize((32, 32), PIL.Image.Resampling.BICUBIC))
        assert np.array_equal(planes.transpose(1, 2, 0), reference)


def test_crops_are_windows_inside_their_picture(mapped, tmp_path):
    settings, shapes = mapped
    batch = prepare("folder", settings, tmp_path / "cache").batch(6000, np.random.default_rng(1)).astype(int)
    assert batch.shape == (6000, 3, 12, 12)
    rows, columns, numbers = batch.transpose(1, 0, 2, 3)
    mirrored = columns[:, 0, 0] > columns[:, 0, -1]
    columns = np.where(mirrored[:, None, None], columns[:, :, ::-1], columns)
    top, left, number = rows[:, :1, :1], columns[:, :1, :1], numbers[:, 0, 0]
    assert (rows == top + np.arange(12)[:, None]).all()
    assert (columns == left + np.arange(12)).all()
    assert (numbers == number[:, None, None]).all()
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / 6000**0.5
    area = sum(h * w for h, w in shapes)
    for i, (h, w) in enumerate(shapes):
        share = h * w / area
        mine = number == i
        assert abs(mine.mean() - share) < 5 * (share * (1 - share) / 6000) ** 0.5
        for start, side in ((top, h), (left, w)):
            starts, last = start[mine].ravel(), side - 12
            assert (starts.min(), starts.max()) == (0, last)
            spread_of_uniform = (((last + 1) ** 2 - 1) / 12) ** 0.5
            assert abs(starts.mean() - last / 2) < 5 * spread_of_uniform / mine.sum() ** 0.5


def test_batches_depend_on_the_generator_alone(mapped, tmp_path):
    corpus = prepare("folder", mapped[0], tmp_path / "cache")
    first = corpus.batch(8, np.random.default_rng([3, 1]))
    for seed in range(5):
        corpus.batch(7, np.random.default_rng(seed))
    assert np.array_equal(corpus.batch(8, np.random.default_rng([3, 1])), first)
    assert np.array_equal(
        prepare("folder", mapped[0], tmp_path / "fresh").batch(8, np.random.default_rng([3, 1])), first
    )
    assert not np.array_equal(corpus.batch(8, np.random.default_rng([3, 2])), first)
    assert np.array_equal(corpus.batch(3, np.random.default_rng([3, 1])), first[:3])


def test_flip_mirrors_and_changes_nothing_else(mapped, tmp_path):
    settings, _ = mapped
    flipped = prepare("folder", settings, tmp_path / "cache").batch(64, np.random.default_rng(0))
    plain = prepare("folder", {**settings, "flip": False}, tmp_path / "cache").batch(64, np.random.default_rng(0))
    same = (flipped == plain).all((1, 2, 3))
    assert 0 < same.sum() < 64
    assert np.array_equal(flipped[~same], plain[~same][..., ::-1])
    assert (plain[:, 1, :, 0] < plain[:, 1, :, -1]).all()


def test_a_second_prepare_decodes_nothing(pictures, tmp_path, opened):
    settings = {"path": str(pictures), **SMALL}
    first = prepare("folder", settings, tmp_path / "cache")
    assert len(opened) == 12
    opened.clear()
    second = prepare("folder", settings, tmp_path / "cache")
    other_crop = prepare("folder", {**settings, "crop": 8, "flip": False}, tmp_path / "cache")
    assert opened == []
    assert first.fingerprint == second.fingerprint == other_crop.fingerprint
    assert np.array_equal(first.heldout, second.heldout)
    assert np.array_equal(first.batch(5, np.random.default_rng(0)), second.batch(5, np.random.default_rng(0)))
    assert isinstance(second._pixels.base, np.memmap)


@pytest.mark.parametrize("change", [{"resize": "area"}, {"resize_to": 24, "heldout_size": 24}, {"heldout_count": 3}])
def test_settings_that_change_pixels_decode_anew(pictures, tmp_path, opened, change):
    settings = {"path": str(pictures), **SMALL}
    first = prepare("folder", settings, tmp_path / "cache")
    opened.clear()
    second = prepare("folder", {**settings, **change}, tmp_path / "cache")
    assert len(opened) == 12
    assert first.fingerprint != second.fingerprint


def test_a_changed_file_is_decoded_anew(pictures, tmp_path):
    save(noise(40, 40, 50), pictures / "x.bmp")
    settings = {"path": str(pictures), **SMALL}
    before = prepare("folder", settings, tmp_path / "cache")
    written = (pictures / "x.bmp").stat()
    save(noise(40, 40, 51), pictures / "x.bmp")
    os.utime(pictures / "x.bmp", ns=(written.st_atime_ns, written.st_mtime_ns + 1))
    assert (pictures / "x.bmp").stat().st_size == written.st_size
    assert prepare("folder", settings, tmp_path / "cache").fingerprint != before.fingerprint


def test_a_picture_moved_to_the_held_out_folder_is_decoded_anew(tmp_path, opened):
    for name in ("in/a", "in/b", "out/c"):
        save(noise(32, 32), tmp_path / f"{name}.png")
    settings = {"path": str(tmp_path / "in"), "heldout_path": str(tmp_path / "out"), **SMALL, "heldout_count": 1}
    before = prepare("folder", settings, tmp_path / "cache")
    shutil.move(tmp_path / "in/b.png", tmp_path / "out/b.png")
    after = prepare("folder", settings, tmp_path / "cache")
    assert after.fingerprint != before.fingerprint


def test_the_fingerprint_is_of_the_content_not_of_the_place(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "copy")
    prints = {
        prepare("folder", {"path": str(p), **SMALL}, tmp_path / "c").fingerprint for p in (pictures, tmp_path / "copy")
    }
    assert len(prints) == 1


def test_two_processes_at_once_leave_one_whole_entry(tmp_path):
    """Both start to decode before either has finished; the loser of the rename uses the winner's entry."""
    code = """
import sys, time
from pathlib import Path
import numpy as np
from ablate.data import prepare as data
here, me = Path(sys.argv[1]), sys.argv[2]
decode = data._decode
def together(*arguments):
    (here / me).touch()
    while len(list(here.glob("ready-*"))) < 2:
        time.sleep(0.01)
    decode(*arguments)
data._decode = together
corpus = data.prepare("photos", {}, here / "cache")
print(corpus.fingerprint, int(corpus.batch(8, np.random.default_rng(0)).sum()), int(corpus.heldout.sum()))
"""
    start = [sys.executable, "-c", code, str(tmp_path)]
    processes = [
        subprocess.Popen([*start, f"ready-{i}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert prepare("photos", {}, tmp_path / "cache").fingerprint == outputs[0][0].split()[0]


def test_a_failed_prepare_leaves_nothing_behind(pictures, tmp_path):
    (pictures / "broken.png").write_bytes((pictures / "0.png").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"data/folder, train: 1 of 12 pictures are not readable \(\w+\): broken.png"):
        prepare("folder", {"path": str(pictures), **SMALL}, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_held_out_crops_do_not_depend_on_the_training_side(tmp_path):
    reference = prepare("photos", {}, tmp_path)
    assert reference.heldout.shape == (64, 3, 128, 128)
    for change in ({"resize": "none"}, {"resize": "nearest"}, {"resize": "area"}, {"crop": 32}, {"flip": False}):
        corpus = prepare("photos", change, tmp_path)
        assert np.array_equal(corpus.heldout, reference.heldout)
        assert (corpus.fingerprint == reference.fingerprint) == ("resize" not in change)


@pytest.mark.parametrize("count", [1, 3, 8, 10])
def test_as_many_held_out_crops_as_asked_shared_evenly(tmp_path, count):
    for i in range(4):
        save(coordinates(64, 80, i), tmp_path / "out" / f"{i}.png")
    save(noise(64, 64), tmp_path / "in" / "a.png")
    folders = {"path": str(tmp_path / "in"), "heldout_path": str(tmp_path / "out")}
    sizes = {"crop": 16, "resize_to": 32, "heldout_size": 16, "heldout_count": count}
    heldout = prepare("folder", {**folders, **sizes}, tmp_path / "cache").heldout
    assert heldout.shape == (count, 3, 16, 16)
    assert len({crop.tobytes() for crop in heldout}) == count
    of_each = np.bincount(heldout[:, 2, 0, 0], minlength=4)
    assert of_each.max() - of_each.min() <= 1


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(1, 5, 9), (16, 129, 129), (22, 86, 173), (7, 1, 7), (6, 2, 3), (9, 40, 2)]
)
def test_spread_places_are_different_and_reach_the_edges(count, rows, columns):
    places = spread(count, rows, columns)
    assert len(set(places)) == count
    assert all(0 <= y < rows and 0 <= x < columns for y, x in places)
    if count == 1:
        assert places == [(2, 4)]
    else:
        longer, side = (1, columns) if columns >= rows else (0, rows)
        assert {place[longer] for place in places} >= {0, side - 1}


def test_too_few_different_crops_are_refused_before_and_while_preparing(tmp_path):
    for name in ("in/a", "out/b"):
        save(noise(33, 33), tmp_path / f"{name}.png")
    settings = {"path": str(tmp_path / "in"), "heldout_path": str(tmp_path / "out"), **SMALL, "resize_to": 33}
    assert prepare("folder", settings, tmp_path / "cache").heldout.shape[0] == 4  # 2 x 2 places
    settings["heldout_count"] = 5
    message = r"data/folder, heldout: 1 of 1 pictures are too small for their share of 5 different crops of 32 px"
    with pytest.raises(ValueError, match=message):
        registry.level("data", "folder").Config.read(settings).preflight()
    with pytest.raises(ValueError, match=message):
        prepare("folder", settings, tmp_path / "cache")


def check_folder(path, **settings):
    registry.level("data", "folder").Config.read({"path": str(path), **SMALL, **settings}).preflight()


def names_of(level, settings, split):
    return [picture.name for picture in registry.build("data", level, settings, split)]


def test_folder_splits_are_disjoint_complete_and_stable(pictures):
    settings = {"path": str(pictures), "heldout_fraction": 0.25}
    train, heldout = (names_of("folder", settings, split) for split in SPLITS)
    assert len(heldout) == 3
    assert sorted(train + heldout) == sorted(p.relative_to(pictures).as_posix() for p in pictures.rglob("*.png"))
    assert not set(train) & set(heldout)
    save(noise(40, 40), pictures / "one_more.JPEG")
    assert len(set(names_of("folder", settings, "heldout")) & set(heldout)) >= 2


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_each_split_has_a_picture(pictures, fraction):
    settings = {"path": str(pictures), "heldout_fraction": fraction}
    assert sorted(len(names_of("folder", settings, split)) for split in SPLITS) == [1, 11]


def test_a_held_out_folder_inside_the_folder_is_not_trained_on(pictures):
    settings = {"path": str(pictures), "heldout_path": str(pictures / "deep")}
    assert names_of("folder", settings, "train") == ["0.png", "3.png", "6.png", "9.png"]
    assert len(names_of("folder", settings, "heldout")) == 8


def test_folder_preflight_accepts_what_it_should(pictures):
    check_folder(pictures)


def test_folder_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        check_folder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"holds no pictures \(.bmp, .jpeg, .jpg, .png"):
        check_folder(tmp_path)
    save(noise(40, 40), tmp_path / "only.png")
    with pytest.raises(ValueError, match="holds one picture"):
        check_folder(tmp_path)


def test_links_to_folders_are_followed_once_and_litter_is_left_out(pictures, tmp_path):
    plain = {split: names_of("folder", {"path": str(pictures)}, split) for split in SPLITS}
    outside = tmp_path / "outside"
    shutil.copytree(pictures / "deep", outside)
    for litter in ("._0.png", ".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/0.png", "@eaDir/0.png/thumb.png"):
        (pictures / litter).parent.mkdir(parents=True, exist_ok=True)
        (pictures / litter).write_bytes(b"no picture")
    (pictures / "Thumbs.db").write_bytes(b"")
    (pictures / "loop").symlink_to(pictures)
    (pictures / "deep" / "up").symlink_to("..")
    (pictures / "again").symlink_to(pictures / "deep")
    (pictures / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (pictures / "itself.png").symlink_to("itself.png")
    (pictures / "itself").symlink_to("itself")
    found = [names_of("folder", {"path": str(pictures)}, split) for split in SPLITS]
    assert found == list(plain.values())  # nothing twice
    (pictures / "linked").symlink_to(outside)
    found = [names_of("folder", {"path": str(pictures)}, split) for split in SPLITS]
    assert sum(map(len, found)) == 12 + 8
    assert any(name.startswith("linked/") for names in found for name in names)
    assert not set(found[0]) & set(found[1])


def test_only_litter_is_said_to_be_litter(tmp_path):
    (tmp_path / "._a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 files such as \._a\.jpg are left out as litter"):
        check_folder(tmp_path)


def test_names_that_are_no_utf8_are_names_too(pictures, tmp_path):
    shutil.copy(pictures / "0.png", os.fsencode(pictures) + b"/\xff\xfe.png")
    settings = {"path": str(pictures), "heldout_fraction": 0.5, "crop": 16, "heldout_size": 16, "heldout_count": 2}
    first = prepare("folder", settings, tmp_path / "cache")
    assert prepare("folder", settings, tmp_path / "cache").fingerprint == first.fingerprint
    check_folder(pictures)


def test_folder_preflight_names_and_counts_small_and_unreadable_pictures(pictures, tmp_path):
    for i in range(7):
        save(noise(10, 50), pictures / f"small{i}.png")
    (pictures / "text.jpg").write_text("not a picture")
    save(np.zeros((40, 40), np.float32), pictures / "deep32.tif")
    save(noise(40, 40)[..., 0], pictures / "grey.png")
    shutil.copytree(pictures / "deep", tmp_path / "out")
    with pytest.raises(ValueError, match="data/folder, train") as caught:
        check_folder(pictures, heldout_path=str(tmp_path / "out"))
    message = str(caught.value)
    assert "7 of 22 pictures are smaller than the crop of 16 px: small0.png, small1.png" in message
    assert "small4.png and 2 more" in message
    assert "1 of 22 pictures are not readable (UnidentifiedImageError): text.jpg" in message
    assert "1 of 22 pictures are of 32 bits per channel, whose range is not known" in message
    assert message.endswith("text.jpg; read as 8-bit RGB: 1 greyscale")


def test_prepare_names_pictures_smaller_than_the_crop(pictures, tmp_path):
    save(noise(10, 50), pictures / "small.png")
    with pytest.raises(ValueError, match=r"1 of 12 pictures are smaller than the crop of 16 px: small.png"):
        prepare("folder", {"path": str(pictures), **SMALL, "heldout_count": 1}, tmp_path / "cache")


def test_pictures_are_turned_upright_and_made_rgb(tmp_path):
    pixels = noise(30, 50)
    image = PIL.Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # orientation: turn a quarter clockwise to view
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_rgb(tmp_path / "turned.png"), np.rot90(pixels, -1))
    PIL.Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.bmp")
    assert np.array_equal(read_rgb(tmp_path / "grey.bmp"), np.repeat(pixels[..., :1], 3, 2))


def test_transparent_pictures_lie_on_white(tmp_path):
    layer = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    layer[:5, :, 3], layer[5:9, :, 3] = 0, 255
    PIL.Image.fromarray(layer).save(tmp_path / "rgba.png")
    alpha = layer[..., 3:] / 255
    found = read_rgb(tmp_path / "rgba.png")
    assert np.abs(found - (alpha * layer[..., :3] + (1 - alpha) * 255)).max() <= 1
    assert (found[:5] == 255).all() and np.array_equal(found[5:9], layer[5:9, :, :3])
    grey = PIL.Image.fromarray(layer[..., :2], "LA")
    grey.save(tmp_path / "la.png")
    white = layer[..., 1:2] / 255 * layer[..., :1] + 255 - layer[..., 1:2]
    assert np.abs(read_rgb(tmp_path / "la.png") - white).max() <= 1
    palette = PIL.Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4), "P")
    palette.putpalette([value for i in range(16) for value in (10 * i, 0, 200)])
    palette.save(tmp_path / "palette.png", transparency=3)
    found = read_rgb(tmp_path / "palette.png").reshape(16, 3)
    assert found[3].tolist() == [255, 255, 255] and found[4].tolist() == [40, 0, 200]


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 30), dtype=np.uint16)
    values[0, :3] = 0, 257 * 100, 65535
    for name in ("deep.png", "deep.tif"):
        save(values, tmp_path / name)
        found = read_rgb(tmp_path / name)
        assert np.abs(found - values[..., None] * (255 / 65535)).max() <= 0.5 + 1e-9
        assert found[0, :3, 0].tolist() == [0, 100, 255]
    image = PIL.Image.fromarray(values)
    exif = image.getexif()
    exif[0x0112] = 8
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_rgb(tmp_path / "turned.png"), np.rot90(found, 1))


def test_cmyk_is_its_complement_times_the_lightness(tmp_path):
    ink = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    PIL.Image.fromarray(ink, "CMYK").save(tmp_path / "ink.tif")
    expected = (255 - ink[..., :3].astype(float)) * (255 - ink[..., 3:].astype(float)) / 255
    assert np.abs(read_rgb(tmp_path / "ink.tif") - expected).max() <= 1


def test_converted_pictures_are_counted_and_the_count_is_kept(pictures, tmp_path):
    save(noise(40, 40)[..., 0], pictures / "grey.png")
    save(noise(40, 40)[..., 0].astype(np.uint16) * 257, pictures / "deep.png")
    PIL.Image.fromarray(np.dstack([noise(40, 40)] * 2)[..., :4]).save(pictures / "glass.png")
    PIL.Image.fromarray(np.dstack([noise(40, 40)] * 2)[..., :4], "CMYK").save(pictures / "ink.jpg")
    image = PIL.Image.fromarray(noise(40, 50))
    exif = image.getexif()
    exif[0x0112] = 3
    image.save(pictures / "turned.jpg", exif=exif)
    expected = {
        "greyscale": 2, "of 16 bits, scaled to 8": 1, "with transparency, on white": 1, "CMYK": 1,
        "turned upright by EXIF": 1,
    }  # fmt: skip
    settings = {"path": str(pictures), **SMALL}
    for _ in range(2):  # decoded, then opened
        assert prepare("folder", settings, tmp_path / "cache").converted == expected


def test_all_twelve_photographs_load():
    shapes = {}
    for split in SPLITS:
        for picture in registry.build("data", "photos", {}, split):
            pixels = picture.load()
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3
            assert (np.ptp(pixels.astype(int), axis=2) > 20).mean() > 0.001  # in colour
            shapes[picture.name] = pixels.shape[:2]
    assert len(shapes) == 12
    assert shapes["astronaut"] == (512, 512)
    assert shapes["china"] == (427, 640)
    assert shapes["motorcycle_left"] == shapes["motorcycle_right"] == (500, 741)


def test_photographs_are_split_by_scene():
    scenes = [{name.removesuffix("_left").removesuffix("_right") for name in names_of("photos", {}, s)} for s in SPLITS]
    assert not scenes[0] & scenes[1]
    assert len(scenes[0] | scenes[1]) == 11
    suffixes = {picture.path.suffix for picture in registry.build("data", "photos", {}, "heldout")}
    assert suffixes == {".png", ".jpg"}


def test_photos_say_what_is_missing(monkeypatch):
    registry.level("data", "photos").Config.read({}).preflight()
    monkeypatch.setitem(photos.PHOTOS, "heldout", [("skimage", "mona_lisa.png")])
    with pytest.raises(ValueError, match=r"this version of skimage does not contain data/mona_lisa.png"):
        registry.level("data", "photos").Config.read({}).preflight()
    monkeypatch.setitem(photos.PHOTOS, "heldout", [("skimage_of_old", "mona_lisa.png")])
    monkeypatch.setitem(photos.PACKAGES, "skimage_of_old", ("scikit-image-of-old", "data"))
    message = (
        "needs mona_lisa.png of the package skimage_of_old, which is not installed: pip install scikit-image-of-old"
    )
    with pytest.raises(ValueError, match=message):
        registry.build("data", "photos", {}, "heldout")


def test_checking_and_preparing_load_no_heavy_library(tmp_path):
    code = f"""
import sys, json
from pathlib import Path
from ablate.data import prepare as data
from ablate.slots import registry
pillow_at_import = "PIL" in sys.modules
for level in ("photos", "leaves"):
    registry.level("data", level).Config.read({{}}).preflight()
data.prepare("photos", {{}}, Path({str(tmp_path)!r}))
heavy = {{"torch", "skimage", "sklearn", "matplotlib", "pandas"}} & set(sys.modules)
print(json.dumps([pillow_at_import, sorted(heavy)]))
"""
    done = python(code, cwd=ROOT)
    assert json.loads(done.stdout) == [False, []]


def test_a_level_without_the_shared_settings_is_refused(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    source = "from ablate.slots import Settings\n\nclass Config(Settings):\n    pass\n\ndef build(config, split): ...\n"
    (tmp_path / "data" / "bare.py").write_text(source)
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    with pytest.raises(registry.LevelError, match=r"Config must inherit DataSettings of ablate\.slots"):
        prepare("bare", {}, tmp_path / "cache")


def test_a_corpus_opens_from_its_folder_alone(pictures, tmp_path):
    made = prepare("folder", {"path": str(pictures), **SMALL}, tmp_path / "cache")
    (entry,) = (tmp_path / "cache").iterdir()
    shutil.rmtree(pictures)
    opened = Corpus(entry, 16, True)
    assert np.array_equal(opened.batch(4, np.random.default_rng(0)), made.batch(4, np.random.default_rng(0)))
