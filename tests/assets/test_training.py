"""The code that makes the starter model: pictures, questions, packing, checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from assets.training import easy, truth
from assets.training.asking import QA
from assets.training.batches import Mix, attention_mask, make_batch
from assets.training.evaluate import UNSEEN_CHAT, described_right, held_out, true_places
from assets.training.loop import Losses, Plan, load, save, schedule, train
from assets.training.model import Sizes, Starter
from assets.training.muon import MuonWithAdamW, orthogonalize
from assets.training.questions import MAKERS, description, follow_up
from assets.training.scenes import (
    HELD_OUT_STYLE,
    SHAPES,
    TRAIN_STYLE,
    Item,
    Scene,
    distance,
    draw,
    letterboxed,
    random_scene,
)
from assets.training.smalltalk import CHAT
from assets.training.tokens import tokenizer_at
from assets.training.words import article, listed, place, plural, typed, vary

STARTER = Path(__file__).resolve().parents[2] / "assets" / "starter"
RED_CIRCLE = Item("circle", "red", 0.2, 0.2, 0.15)
BLUE_SQUARE = Item("square", "blue", 0.8, 0.25, 0.1)
RED_STAR = Item("star", "red", 0.5, 0.8, 0.1)
TRIO = Scene((RED_CIRCLE, BLUE_SQUARE, RED_STAR), "white")


def answers(kind: str, scene: Scene, tries: int = 200) -> dict[str, str]:
    """Many questions of a kind about a scene, lower case, with their answers."""
    rng = np.random.default_rng(0)
    found: dict[str, str] = {}
    for _ in range(tries):
        if asked := MAKERS[kind](scene, rng):
            found[asked.question.lower().rstrip("?.")] = asked.answer
    return found


class TestQuestions:
    @pytest.mark.parametrize(
        ("kind", "question", "answer"),
        [
            ("colour", "what colour is the square", "It is blue."),
            ("shape", "what is the blue shape", "It is a square."),
            ("count all", "how many shapes are there", "There are 3 shapes."),
            ("count by colour", "how many red shapes are there", "There are 2 red shapes."),
            ("count by shape", "how many stars are there", "There is 1 star."),
            ("count by colour and shape", "how many red circles", "There is 1 red circle."),
            ("count by colour and shape", "how many blue circles", "There are no blue circles."),
            ("existence", "is there a red square", "No."),
            ("existence", "is there a red star", "Yes."),
            ("size", "what is the biggest shape", "The red circle."),
            ("relation", "is the red circle left of the blue square", "Yes."),
            ("relation", "is the red circle below the red star", "No."),
            ("outermost", "which shape is the rightmost", "The blue square."),
            ("where", "where is the star", "It is at the bottom."),
            ("background", "what colour is the background", "The background is white."),
        ],
    )
    def test_answer_follows_from_the_scene(self, kind: str, question: str, answer: str) -> None:
        assert answers(kind, TRIO, 4000)[question] == answer

    @pytest.mark.parametrize(
        ("kind", "scene"),
        [
            ("colour", Scene((RED_CIRCLE, Item("circle", "blue", 0.7, 0.7, 0.1)), None)),
            ("size", Scene((RED_CIRCLE, Item("star", "blue", 0.7, 0.7, 0.14)), None)),
            ("relation", Scene((RED_CIRCLE, RED_CIRCLE), None)),
            ("where", Scene((Item("circle", "red", 0.34, 0.5, 0.1),), None)),
            ("background", Scene((RED_CIRCLE,), None)),
            ("outermost", Scene((RED_CIRCLE,), None)),
        ],
        ids=["two of them", "almost as big", "same look", "on a border", "no name", "only one"],
    )
    def test_nothing_is_asked_that_has_no_certain_answer(self, kind: str, scene: Scene) -> None:
        assert answers(kind, scene) == {}

    def test_a_square_never_makes_the_question_about_rectangles(self) -> None:
        asked = answers("existence", Scene((BLUE_SQUARE,), None), 3000)
        assert not [q for q in asked if "a rectangle" in q]

    def test_description_goes_from_left_to_right(self) -> None:
        assert description(TRIO) == (
            "I see a red circle at the top left, a red star at the bottom and a blue square at the top right."
        )

    def test_follow_up_is_about_the_shape_just_named(self) -> None:
        rng = np.random.default_rng(1)
        before = QA("size", "What is the biggest?", "The red circle.", RED_CIRCLE)
        found = {follow.answer for _ in range(50) if (follow := follow_up(before, rng))}
        assert found == {"It is red.", "It is a circle.", "It is at the top left."}

    def test_no_follow_up_after_a_yes(self) -> None:
        before = QA("relation", "Is it?", "Yes.", RED_CIRCLE)
        assert follow_up(before, np.random.default_rng(1)) is None


class TestWords:
    @pytest.mark.parametrize(
        ("parts", "text"),
        [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
    )
    def test_listed(self, parts: list[str], text: str) -> None:
        assert listed(parts) == text

    @pytest.mark.parametrize(("noun", "many"), [("circle", "circles"), ("cross", "crosses")])
    def test_plural(self, noun: str, many: str) -> None:
        assert plural(noun) == many

    def test_article(self) -> None:
        assert [article("orange star"), article("red star")] == ["an orange star", "a red star"]

    @pytest.mark.parametrize(
        ("x", "y", "words"),
        [(0.1, 0.1, "at the top left"), (0.5, 0.5, "in the middle"), (0.99, 1.0, "at the bottom right")],
    )
    def test_place(self, x: float, y: float, words: str) -> None:
        assert place(x, y) == words

    def test_vary_reaches_every_choice_and_leaves_no_brackets(self) -> None:
        rng = np.random.default_rng(0)
        found = {vary(rng, "a (b|c (d|e)|) f?") for _ in range(100)}
        assert found == {"a b f?", "a c d f?", "a c e f?", "a f?"}

    def test_typed_keeps_the_words(self) -> None:
        rng = np.random.default_rng(0)
        found = {typed(rng, "What colour?") for _ in range(200)}
        assert {f.lower().rstrip("?").replace("colour", "color") for f in found} == {"what color"}
        assert len(found) == 8


class TestScenes:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_shape_covers_its_centre_and_not_its_surroundings(self, shape: str) -> None:
        axis = np.linspace(-2, 2, 81, dtype=np.float32)
        inside = distance(shape, axis[None, :], axis[:, None]) < 0
        assert inside[40, 40]
        assert not inside[0].any()
        assert not inside[:, 0].any()

    def test_unknown_shape_is_an_error(self) -> None:
        axis = np.zeros(1, np.float32)
        with pytest.raises(ValueError, match="hexagon"):
            distance("hexagon", axis, axis)

    @pytest.mark.parametrize("style", [TRAIN_STYLE, HELD_OUT_STYLE], ids=["train", "held out"])
    def test_the_same_seed_draws_the_same_picture(self, style: object) -> None:
        assert style in (TRAIN_STYLE, HELD_OUT_STYLE)
        first, second = (draw(random_scene(rng, 4), 128, rng) for rng in map(np.random.default_rng, (5, 5)))
        assert np.array_equal(first, second)

    def test_held_out_backdrops_are_new(self) -> None:
        assert set(HELD_OUT_STYLE.backdrops) - set(TRAIN_STYLE.backdrops) >= {"checker", "dots"}

    def test_centre_of_a_shape_has_its_colour(self) -> None:
        pixels = draw(Scene((RED_CIRCLE,), "white"), 128, np.random.default_rng(0))
        red, green, blue = (int(v) for v in pixels[25, 25])
        assert red > 150
        assert max(green, blue) < 110

    def test_a_wide_picture_gets_gray_bars(self) -> None:
        pixels = letterboxed(np.zeros((10, 30, 3), np.uint8))
        assert pixels.shape == (30, 30, 3)
        assert (pixels[:10] == 127).all()
        assert (pixels[10:20] == 0).all()


class TestTruth:
    def test_each_shape_has_one_anchor_where_its_centre_is(self) -> None:
        rows = truth.attributes(TRIO)
        anchors = np.nonzero(rows[:, truth.ANCHOR])[0]
        assert sorted(anchors) == sorted(truth.patch_of(i.x, i.y) for i in TRIO.items)

    def test_a_letterboxed_centre_moves_with_its_picture(self) -> None:
        assert truth.square_position(Item("star", "red", 0.5, 0.0, 0.1), 2.0) == (0.5, 0.25)

    def test_unknown_names_are_left_out_of_the_loss(self) -> None:
        found = truth.labels(Scene((Item("", "red", 0.5, 0.5, 0.2),), None))
        assert set(found.shape) == {0, -100}


class TestDescriptionJudge:
    @pytest.mark.parametrize(
        ("answer", "right"),
        [
            (description(TRIO), True),
            (("I see a blue square at the top right, a red star at the bottom and a red circle at"
             " the top left."), True),
            ("I see a red circle at the top left and a red star at the bottom.", False),
            (description(TRIO).replace("red star", "blue star"), False),
            (description(TRIO).replace("at the bottom", "at the top"), False),
            ("", False),
        ],
        ids=["canonical", "other order", "one missing", "wrong colour", "wrong place", "empty"],
    )  # fmt: skip
    def test_judgement(self, answer: str, *, right: bool) -> None:
        assert described_right(TRIO, answer) is right

    def test_on_a_border_both_places_are_true(self) -> None:
        assert true_places(Item("star", "red", 0.34, 0.5, 0.1)) == {"on the left", "in the middle"}


class TestPacking:
    def test_groups_see_the_prefix_and_themselves_only(self) -> None:
        seen = attention_mask(torch.tensor([[0, 1, 1, 2, -1]]))[0] == 0
        assert seen.int().tolist() == [
            [1, 0, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 0, 0, 1, 0],
            [0, 0, 0, 0, 1],
        ]

    def test_a_packed_answer_equals_the_answer_alone(self) -> None:
        tokenizer = tokenizer_at(STARTER / "tokenizer.json")
        rng = np.random.default_rng(3)
        batch = make_batch(tokenizer, rng, 1, Mix(text_only=0, easy=0, two_pictures=0))
        model = Starter(Sizes()).eval()
        language = model.language_model.model
        with torch.inference_mode():
            assert batch.pictures is not None
            image = model.see(batch.pictures.pixels)[1]
            embedded = language.embed_tokens(batch.ids)
            flat = embedded.flatten(0, 1).index_copy(0, batch.slots, image.flatten(0, 1))
            packed = language(flat[None], batch.positions, batch.mask.float())[0]
            # The last group: its tokens are those after the last return to the prefix's length.
            starts = (batch.positions[0].diff() < 0).nonzero().squeeze(-1) + 1
            used = int((batch.sources[-1] + 2).item())
            begin = int(starts[starts < used][-1])
            prefix = int(batch.positions[0, begin])
            alone = torch.cat([flat[:prefix], flat[begin:used]])[None]
            length = alone.shape[1]
            mask = torch.full((1, length, length), -30000.0).triu(1)
            single = language(alone, torch.arange(length)[None], mask)[0]
        torch.testing.assert_close(single[prefix:], packed[begin:used], atol=1e-4, rtol=1e-4)

    def test_targets_spell_answers(self) -> None:
        tokenizer = tokenizer_at(STARTER / "tokenizer.json")
        batch = make_batch(tokenizer, np.random.default_rng(4), 2, Mix())
        flat = batch.ids.flatten()
        assert torch.equal(flat[batch.sources + 1], batch.targets)
        assert int(batch.asked.max()) == len(batch.kinds) - 1


class TestLoop:
    @pytest.mark.parametrize(
        ("done", "factor"), [(0.0, 0.02), (0.015, 0.5), (0.03, 1.0), (0.515, 0.5), (1.0, 0.01)]
    )
    def test_schedule(self, done: float, factor: float) -> None:
        assert schedule(done, 0.03) == pytest.approx(factor)

    def test_a_write_that_fails_keeps_the_old_checkpoint(self, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint.pt"
        save(path, {"step": 1})

        class Broken:
            def __reduce__(self) -> str:
                raise OSError("no space left")

        with pytest.raises(OSError, match="no space"):
            save(path, {"step": Broken()})
        assert load(path) == {"step": 1}

    def test_training_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        seen: list[int] = []

        def run(minutes: float) -> None:
            model = Starter(Sizes(vision_layers=1, text_layers=1))

            def losses(step: int, _done: float) -> Losses:
                seen.append(step)
                return {"norm": model.multi_modal_projector.linear_1.weight.square().mean()}

            plan = Plan(minutes, log_every=1000)
            train(model, MuonWithAdamW(model), losses, tmp_path, plan)

        run(0.01)
        stopped = int(load(tmp_path / "checkpoint.pt")["step"])
        run(0.02)
        assert seen == list(range(len(seen)))
        assert 0 < stopped < len(seen)


class TestHeldOut:
    @pytest.mark.parametrize("question", [question for question, _ in UNSEEN_CHAT])
    def test_no_template_makes_the_small_talk_that_is_measured(self, question: str) -> None:
        for template in CHAT:
            pattern = re.sub(r"([.?!])", r"\\\1", template).replace(" ", r"\s*")
            assert not re.fullmatch(pattern, question.rstrip("?!"), re.IGNORECASE)
            assert not re.fullmatch(pattern, question, re.IGNORECASE)

    def test_the_measure_is_the_same_every_time(self) -> None:
        first, second = (list(held_out(1, seed=5)) for _ in range(2))
        assert [case.question for case in first] == [case.question for case in second]
        shown = [[c.pixels.tobytes() for c in cases if c.pixels is not None] for cases in (first, second)]
        assert shown[0] == shown[1]
        assert len(shown[0]) == len(first)

    def test_training_pictures_are_of_the_train_split(self) -> None:
        shown = {picture.pixels.tobytes() for picture in easy.pictures("train", original=True)}
        hidden = {picture.pixels.tobytes() for picture in easy.pictures("test", original=True)}
        assert len(hidden) == 1000
        assert len(hidden & shown) <= 1


def test_orthogonalize_evens_out_the_singular_values() -> None:
    matrix = torch.randn(3, 64, 128, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.4
