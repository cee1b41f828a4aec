import io
import os
from pathlib import Path

import pytest

from rnnspn.errors import InputError
from rnnspn.pictures.inputs import collect

NOTHING = io.BytesIO()


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.tiff", "sub/deep/d.pgm"):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_a_folder_gives_its_pictures_sorted_and_recursively(tree):
    assert collect(["."], NOTHING) == ["./a.JPG", "./b.png", "./sub/c.tiff", "./sub/deep/d.pgm"]


def test_pictures_of_kinds_that_cannot_be_read_are_not_passed_over(tree):
    (tree / "phone.HEIC").touch()
    assert collect(["."], NOTHING)[-3] == "./phone.HEIC"


def test_a_named_file_is_taken_whatever_its_ending(tree):
    assert collect(["notes.txt"], NOTHING) == ["notes.txt"]


def test_the_order_of_the_arguments_is_kept_and_each_path_comes_once(tree):
    assert collect(["sub", "b.png", "./b.png", ".", str(tree / "a.JPG")], NOTHING) == [
        *("sub/c.tiff", "sub/deep/d.pgm", "b.png", "./a.JPG"),
    ]


def test_hard_links_are_paths_of_their_own(tree):
    os.link("b.png", "e.png")
    assert collect(["b.png", "e.png"], NOTHING) == ["b.png", "e.png"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["b.png"]),
        ("**/*.pgm", ["sub/deep/d.pgm"]),
        ("s*", 2),
        ("**", 5),
        ("s*/**", 2),
        ("./**/*.tiff", ["./sub/c.tiff"]),
    ],
)
def test_patterns_are_expanded(tree, pattern, found):
    listed = collect([pattern], NOTHING)
    assert listed == found if isinstance(found, list) else len(listed) == found


def test_a_list_names_paths_and_may_name_missing_ones(tree):
    Path("list.txt").write_text("b.png\r\n\nsub\ngone.png\n")
    assert collect(["@list.txt"], NOTHING) == ["b.png", "sub/c.tiff", "sub/deep/d.pgm", "gone.png"]


def test_stdin_names_paths_one_a_line_or_nul_ended(tree):
    assert collect(["-"], io.BytesIO(b"b.png\na.JPG\n")) == ["b.png", "a.JPG"]
    assert collect(["-"], io.BytesIO(b"odd\nname.png\0b.png\0")) == ["odd\nname.png", "b.png"]


@pytest.mark.parametrize("argument", ["gone.png", "gone/", "*.webp", "@gone.txt"])
def test_what_is_missing_is_refused_in_one_line(tree, argument):
    with pytest.raises(InputError) as refused:
        collect([argument], NOTHING)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_folder_without_pictures_is_refused(tree):
    Path("bare").mkdir()
    with pytest.raises(InputError, match="found none in bare"):
        collect(["bare"], NOTHING)


def test_odd_names_survive(tree):
    names = [b"caf\xe9.png", b"new\nline.png", b"=1+1.png"]
    folder = os.fsencode(tree / "odd")
    Path(os.fsdecode(folder)).mkdir()
    for name in names:
        Path(os.fsdecode(folder + b"/" + name)).touch()
    assert sorted(os.fsencode(path) for path in collect(["odd"], NOTHING)) == sorted(b"odd/" + name for name in names)


def test_loops_of_links_end_and_each_folder_is_walked_once(tree):
    Path("sub/loop").symlink_to(tree, target_is_directory=True)
    Path("self").symlink_to("self")
    Path("gone.png").symlink_to("nowhere")
    assert collect(["."], NOTHING) == ["./a.JPG", "./b.png", "./gone.png", "./sub/c.tiff", "./sub/deep/d.pgm"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_may_be_as_windows_writes_it(tree, encoding):
    text = "b.png\r\nsub\r\ng\u00f6ne.png\r\n"
    Path("list.txt").write_bytes(text.encode(encoding))
    assert collect(["@list.txt"], NOTHING) == ["b.png", "sub/c.tiff", "sub/deep/d.pgm", "g\u00f6ne.png"]


def test_a_list_may_end_in_more_nuls_than_it_needs(tree):
    assert collect(["-"], io.BytesIO(b"b.png\0\0gone.png\0\0")) == ["b.png", "gone.png"]


@pytest.mark.parametrize("argument", ["-", "@list.txt"])
def test_a_picture_is_no_list(tree, argument):
    data = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0.\0"
    Path("list.txt").write_bytes(data)
    with pytest.raises(InputError, match=r"expected a list of paths, one a line, in .*; got something else"):
        collect([argument], io.BytesIO(data))


def test_a_folder_is_listed_under_its_own_name_and_one_that_is_only_linked_under_the_links(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "e.png").touch()
    Path("a link").symlink_to("sub", target_is_directory=True)
    Path("a place").symlink_to(elsewhere, target_is_directory=True)
    assert collect(["."], NOTHING) == ["./a.JPG", "./b.png", "./sub/c.tiff", "./sub/deep/d.pgm", "./a place/e.png"]


def test_what_is_hidden_in_a_folder_is_passed_over_unless_it_is_named(tree):
    Path(".thumbs").mkdir()
    for name in (".thumbs/e.png", "sub/._c.png"):
        Path(name).touch()
    assert collect(["."], NOTHING) == ["./a.JPG", "./b.png", "./sub/c.tiff", "./sub/deep/d.pgm"]
    assert collect([".thumbs", "sub/._c.png"], NOTHING) == [".thumbs/e.png", "sub/._c.png"]


def test_patterns_do_not_go_round_in_loops_of_links(tree):
    for name in ("loop", "sub/loop", "sub/deep/loop"):
        Path(name).symlink_to(tree, target_is_directory=True)
    assert collect(["**/*.png"], NOTHING) == ["b.png"]
    assert collect([f"{tree}/**/[cd].*"], NOTHING) == [f"{tree}/sub/c.tiff", f"{tree}/sub/deep/d.pgm"]
    assert len(collect(["s*/**"], NOTHING)) < 10


def test_a_pattern_goes_through_folders_whose_names_look_like_patterns_but_not_through_hidden_ones(tree):
    for folder in ("s[u]b", ".hidden"):
        Path(folder).mkdir()
        Path(folder, "e.png").touch()
    assert collect(["**/e.png"], NOTHING) == ["s[u]b/e.png"]


def test_what_dots_mean_hangs_on_the_links_before_them(tree):
    Path("link").symlink_to("sub/deep", target_is_directory=True)
    Path("sub/b.png").touch()
    assert collect(["b.png", "link/../b.png"], NOTHING) == ["b.png", "link/../b.png"]
    assert collect(["b.png", "sub/../b.png", "./b.png"], NOTHING) == ["b.png"]


def test_pipes_named_like_pictures_are_listed_and_not_opened(tree):
    os.mkfifo("pipe.png")
    os.mkfifo("pipe")
    assert "./pipe.png" in collect(["."], NOTHING)
    assert "./pipe" not in collect(["."], NOTHING)


def test_a_folder_that_cannot_be_listed_stands_for_itself(tree, monkeypatch):
    listdir = os.listdir

    def refusing(path):
        if path == "./sub":
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)
    assert collect(["."], NOTHING) == ["./a.JPG", "./b.png", "./sub"]
