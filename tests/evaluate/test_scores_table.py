"""scores.csv survives the round trip and refuses what cannot be true."""

import csv

import pytest

from evaluate.scores import make_score
from polysite.errors import DataError
from polysite.evaluate.kinds import KINDS
from polysite.evaluate.table import columns_of, read_scores, write_scores


def test_columns_are_those_of_the_format(tmp_path):
    write_scores(tmp_path / "scores.csv", [make_score()])
    with (tmp_path / "scores.csv").open() as file:
        header = next(csv.reader(file))
    assert header == list(columns_of(KINDS["synthesis"]))
    assert ",".join(header) == (
        "method,seed,site,subject,session,image,task,psnr_db,ssim,nrmse,n_voxels,data_range,mask"
    )


def test_what_is_written_is_read_back_exactly(tmp_path):
    scores = [
        make_score(psnr_db=1 / 3 * 60, ssim=0.1 + 0.2, session="ses-1"),
        make_score(subject='sub, "quoted"\nline', site="Zürich"),
    ]
    write_scores(tmp_path / "scores.csv", scores)
    assert read_scores(tmp_path / "scores.csv") == scores
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_a_key_that_stands_twice_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(path, [make_score()])
    before = path.read_bytes()
    with pytest.raises(DataError, match="sub-01 at north, T1w->T2w is scored twice"):
        write_scores(path, [make_score(), make_score(ssim=0.1)])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"psnr_db": float("inf")}, "compared with itself"),
        ({"psnr_db": float("nan")}, "psnr_db is nan"),
        ({"ssim": 1.2}, r"ssim is 1.2, outside \[-1, 1\]"),
        ({"nrmse": -0.1}, "nrmse is -0.1"),
        ({"n_voxels": 0}, "n_voxels is 0"),
        ({"data_range": 0.0}, "data_range is 0.0"),
        ({"site": ""}, "site is empty"),
    ],
)
def test_a_score_that_cannot_be_true_is_refused(values, message):
    with pytest.raises(DataError, match=message):
        make_score(**values)


def _edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("psnr_db", "psnr", "scores.csv:1: .*missing: psnr_db; unknown: 'psnr'"),
        ("mask\n", "mask,extra\n", "scores.csv:1: .*unknown: 'extra'"),
        (",0.8,", ",high,", "scores.csv:2: ssim is 'high', not a number"),
        (",0.8,", ",8.0,", "scores.csv:2: ssim is 8.0, outside"),
        (",foreground", "", "scores.csv:2: needs 13 values"),
        (",foreground", ",foreground,1", "scores.csv:2: needs 13 values"),
        (",1000,", ",10.5,", "scores.csv:2: n_voxels is '10.5'"),
    ],
)
def test_a_damaged_table_names_file_line_and_value(tmp_path, old, new, message):
    path = tmp_path / "scores.csv"
    write_scores(path, [make_score()])
    _edit(path, old, new)
    with pytest.raises(DataError, match=message):
        read_scores(path)


def test_a_repeated_line_is_named(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(path, [make_score()])
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(DataError, match=r"scores.csv:3: local with seed 1.*scored twice"):
        read_scores(path)


def test_a_table_without_the_column_image_is_read_as_before(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(
        "method,seed,site,subject,session,task,psnr_db,ssim,nrmse,n_voxels,data_range,mask\n"
        "local,1,north,sub-01,,T1w->T2w,20.0,0.8,0.3,1000,1.0,foreground\n"
    )
    assert read_scores(path) == [make_score()]


def test_the_header_tells_the_kind_and_an_empty_cell_is_not_defined(tmp_path):
    path = tmp_path / "scores.csv"
    scores = [
        make_score(kind="segmentation", hd95_mm=None, assd_mm=None),
        make_score(
            kind="segmentation", image="ES", ef_error_percent=2.5, ef_percent=57.5, true_ef_percent=60
        ),
    ]
    write_scores(path, scores)
    assert path.read_text().splitlines()[:2] == [
        "method,seed,site,subject,session,image,task,dice,hd95_mm,assd_mm,volume_error_ml,ef_error_percent,"
        "volume_ml,true_volume_ml,ef_percent,true_ef_percent",
        "local,1,north,sub-01,,ED,LV,0.9,,,5.0,,105.0,100.0,,",
    ]
    assert read_scores(path) == scores


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dice", "dyce", "scores.csv:1: .*missing: dice; unknown: 'dyce'"),
        ("image,", "", "scores.csv:1: .*missing: image"),
        ("image", "task", "scores.csv:1: .*missing: image"),
        (",0.9,", ",,", "scores.csv:2: dice is '', not a number"),
        (",0.9,", ",1.1,", r"scores.csv:2: dice is 1.1, outside \[0, 1\]"),
        (",4.0,", ",-4.0,", "scores.csv:2: hd95_mm is -4.0, outside"),
        (",4.0,", ",inf,", "scores.csv:2: hd95_mm is inf; a finite value"),
        (",105.0,", ",nan,", "scores.csv:2: volume_ml is nan"),
    ],
)
def test_a_damaged_table_of_segmentation_names_what_is_wrong(tmp_path, old, new, message):
    path = tmp_path / "scores.csv"
    write_scores(path, [make_score(kind="segmentation")])
    _edit(path, old, new)
    with pytest.raises(DataError, match=message):
        read_scores(path)


def test_two_kinds_of_task_cannot_stand_in_one_table(tmp_path):
    with pytest.raises(DataError, match="synthesis and segmentation cannot stand in one table"):
        write_scores(tmp_path / "scores.csv", [make_score(), make_score(kind="segmentation")])


def test_a_metric_of_another_kind_is_refused():
    row = make_score()
    with pytest.raises(DataError, match="'dice' is no column of synthesis scores"):
        type(row)(**(vars(row) | {"metrics": {**row.metrics, "dice": 1.0}}))
    with pytest.raises(DataError, match="'registration' is no kind of task"):
        type(row)(**(vars(row) | {"kind": "registration"}))


def test_every_image_has_its_own_scores(tmp_path):
    rows = [make_score(kind="segmentation", image=image) for image in ("ED", "ES")]
    write_scores(tmp_path / "scores.csv", rows)
    with pytest.raises(DataError, match="sub-01 at north, LV in ED is scored twice"):
        write_scores(tmp_path / "scores.csv", [rows[0], *rows])


def test_files_that_cannot_be_read_or_written_are_data_errors(tmp_path):
    with pytest.raises(DataError, match=r"nothing.csv: cannot be read"):
        read_scores(tmp_path / "nothing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"binary.csv: cannot be read"):
        read_scores(tmp_path / "binary.csv")
    with pytest.raises(DataError, match=r"cannot be written"):
        write_scores(tmp_path / "no" / "folder" / "scores.csv", [make_score()])
