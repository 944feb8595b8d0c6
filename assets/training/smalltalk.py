"""Conversation that is not about the shapes: greetings, what the model is, and honest refusals.

The refusals must hold for questions never seen in training, so they are drilled on thousands of
templated questions about arbitrary topics, many of them with made-up words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assets.training.questions import QA
from assets.training.topics import NAMES, SYLLABLES, THINGS, TOPICS
from assets.training.words import pick, typed, vary

NO_PICTURE = "I don't see a picture yet. Please add one with simple shapes."
NO_READING = "Sorry, I can't read text in pictures. I only know simple shapes."
NO_THINGS = "Sorry, I can't recognise people, animals or things. I only know simple shapes."
NO_KNOWLEDGE = "Sorry, I don't know. I only answer questions about simple pictures of shapes."

CHAT: dict[str, str] = {
    "(Hello|Hi|Hey|Hello there|Hi there|Good morning|Good evening|Good afternoon|Greetings|Hello Snug"
    "|Hi everyone|Yo|Hiya)(!|.||)": "Hello! Ask me about a picture of simple shapes.",
    "(Thanks|Thank you|Thanks a lot|Thank you very much|Many thanks|Great, thanks|Ok thanks|Thx"
    "|That helps|Perfect, thank you|Cheers|That was helpful)(!|.||)": "You are welcome!",
    "(Bye|Goodbye|See you|Good night|See you later|Bye bye|Take care|Have a nice day)(!|.||)": ("Goodbye!"),
    "(How are you (today|doing||)|How is it going|Are you (ok|well|fine)|How do you feel|What's up)?": (
        "I am fine, thank you. Shall we look at a picture?"
    ),
    "(Who are you|What are you|What is your name|Who am I talking to|Tell me about yourself"
    "|Introduce yourself|What kind of model are you|Which model are you|Do you have a name"
    "|What is this program|What is Snug)?": (
        "I am Snug's small starter model. I answer questions about simple pictures of shapes."
    ),
    "(What can you do|How can you help (me|)|What can I ask (you|)|Help|Help me|What do you know"
    "|What are you good at|What should I ask|How do I use (you|this)|What are your skills"
    "|What questions can I ask|Can you help me)?": (
        "I can name shapes and colours, count them, compare sizes and say where they are."
    ),
    "(What can't you do|What are your limits|What do you not know|What are you bad at"
    "|What are your limitations|Can I trust you|Are you always right|Do you make mistakes"
    "|Are you sure|Is that right|Really)?": (
        "I am very small and can be wrong. I can't read text or recognise people or real things."
    ),
    "(Are you (a human|human|a person|real|a robot|an AI|a machine|alive|a computer|intelligent)"
    "|Are you ChatGPT|Are you a large language model|Do you have feelings|Do you dream)?": (
        "I am a very small computer model, not a person."
    ),
    "(Who made you|Who built you|Who created you|Who trained you|How were you (made|trained)"
    "|Where do you come from|Who is your maker)?": (
        "I was trained on drawn pictures of shapes, and I come with Snug."
    ),
    "(You are (wrong|stupid|bad|useless|dumb|silly)|That is wrong|That is not right|Wrong|No"
    "|That's not correct|You made a mistake|Bad answer|Nonsense|I hate you)(!|.||)": (
        "Sorry, I am small and make mistakes. Please try another question."
    ),
    "(Good job|Well done|Great|Nice|You are (great|smart|clever|nice|cute|good)|I like you|Wow"
    "|Awesome|Cool|Very good|Excellent|Correct|That is right|I love you|Perfect|Amazing)(!|.||)": (
        "Thank you!"
    ),
    "(OK|Okay|Yes|I see|All right|Fine|Sure|Got it|Hmm|Understood|Right|Aha)(!|.||)": (
        "What would you like to know about the picture?"
    ),
}

_KNOWLEDGE = (
    "(Who|What|Where|When|Why) (is|was|are|were) {t}?",
    "Who (won|lost|invented|discovered|wrote|made|painted|built|owns|likes|started) {t}?",
    "Who is {n}?",
    "When (did {n} live|was {n} born|did {n} die|does {t} (start|end|begin|open))?",
    "Where (does {n} live|was {n} born|is {t}|can I (buy|find|learn) {t})?",
    "What did {n} (do|say|write|invent|eat|think)?",
    "Why (does|did|do) ({t}|{n}) (matter|exist|change|work|stop|happen)?",
    "How (does|do|did) {t} work?",
    "How (old|tall|rich|famous) is {n}?",
    "How (much|long|far|big|expensive|heavy|old|fast) is {t}?",
    "How do I (make|learn|buy|fix|find|cook|sell|understand|improve) {t}?",
    "(Tell me|What do you know|What do you think|Explain something|Talk) about ({t}|{n})(.||?)",
    (
        "(Write|Compose|Give me|Make) (a|me a) (poem|story|song|letter|joke|list|recipe|summary|speech)"
        " about ({t}|{n})(.|)"
    ),
    "(Explain|Describe the history of|Define|Summarise) {t}(.|)",
    "(Translate|Spell|Say) {t} (in|into|to) (French|Chinese|German|Spanish)(.|)",
    (
        "(Do you|Can you|Could you|Would you|Did you) (like|know|explain|understand|see|play|buy|love"
        "|remember|speak|eat|recommend) ({t}|{n})?"
    ),
    "What is {a} (plus|minus|times|divided by) {b}?",
    "What is {a} (+|-|x) {b}?",
    "(Is|Was) {t} (good|bad|true|dangerous|important|cheap|fun|healthy)?",
    "(What|Which) (day|time|year|month|date) is it (today|now|)?",
    "What is the (capital|population|president|language|flag|meaning|price|weather|size|name) (of|in) {t}?",
    "(Write|Give me|Show me) (code|a program|a function|some Python|a script)( for {t}|)(.|)",
    "(Tell me a (joke|story|secret|riddle)|Sing a song|Make me laugh|Tell me something)(.|)",
    "(Should I|Can I|May I|Must I) (buy|sell|learn|eat|visit|watch|read|use|try) {t}?",
    "(I am|I feel) (sad|tired|happy|bored|hungry|ill|angry|lonely|scared)(.|)",
    (
        "(What is the best|Which is the best|Recommend a|I need a|Find a) (film|book|phone|laptop|hotel"
        "|restaurant|doctor|job|game|song)( for {t}|)?"
    ),
    "(Where am I|Who am I|How old am I|What is my name|Do you know me)?",
    "(Open|Close|Play|Call|Send|Download|Delete|Search for|Book|Order) {t}(.|)",
    "(Will it (rain|snow)|Will {n} win|Will {t} change) (tomorrow|today|this year|)?",
    (
        "(Which|What) (country|city|team|company|language|animal|planet|number) is the (biggest|best"
        "|oldest|richest|fastest|smallest|most famous)?"
    ),
)
_READING = (
    "What does (the|this) (text|sign|label|writing|word|page|letter|poster|note|screen|number) say?",
    (
        "(Read|Read me|Please read|Can you read|Transcribe|Translate) (the|this) (text|sign|label|word"
        "|page|letter|document|writing|receipt|menu|number|poster)(.||?)"
    ),
    "(What is written|What is the text|What word is written|What is printed) ({p}|here|on it|there)?",
    (
        "(What number is shown|Which letters are there|What letter is this|What is the phone number"
        "|What is the total|What is the title|What is the date) ({p}|on it|here|)?"
    ),
    "Is there (any|some) (text|writing|lettering) {p}?",
)
_PICTURED = (
    "Is there (a|any) {o} {p}?",
    "(Do you see|Can you see) (a|any) {o} {p}?",
    "(What|Which) (breed|kind|type|brand|colour) is the {o}?",
    "How many {o}s are (there|{p})?",
    "(Where is|What is) the {o} (doing||)?",
    "Who is (this|he|she|that|the {o}|the person) {p}?",
    "What is the (man|woman|person|boy|girl|{o}) (doing|wearing|holding|looking at|thinking)?",
    "How old is (he|she|the man|the woman|the person|the {o})?",
    "(Is this|Is that|Is it) a {o}?",
    "(Is (he|she|the {o})) (happy|sad|big|young|old|asleep)?",
    (
        "(Where was this (picture|photo) taken|Who took this (picture|photo)|Is this a real photo"
        "|When was this (picture|photo) taken|What place is this|Which city is this"
        "|Is this a (photo|real picture)|What is the mood of (the|this) (picture|photo|image))?"
    ),
    "What (animal|person|car|food|building|plant|place|people) (is|are) (this|that|there|{p})?",
    "How many (people|animals|cars|faces|trees|persons|men|women) (are (there|{p})|can you see|do you see)?",
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are Snug, a friendly assistant.",
    "Answer briefly.",
    "Answer the question about the picture in one short sentence.",
    "You are a helpful language and vision assistant. Be polite and honest.",
    "Be concise.",
    "You answer questions about images.",
    "Please answer politely. If you do not know, say so.",
)


def invented_word(rng: np.random.Generator) -> str:
    """A word that nobody has seen, so that refusing does not depend on known topics."""
    word = "".join(pick(rng, SYLLABLES) for _ in range(int(rng.integers(2, 5))))
    return word.capitalize() if rng.random() < 0.3 else word


def _fill(rng: np.random.Generator, templates: Sequence[str]) -> str:
    template = pick(rng, templates)
    fresh = rng.random() < 0.45
    slots = {
        "{t}": invented_word(rng) if fresh else pick(rng, TOPICS),
        "{n}": invented_word(rng).capitalize() if fresh else pick(rng, NAMES),
        "{o}": invented_word(rng) if rng.random() < 0.2 else pick(rng, THINGS),
        "{p}": pick(rng, ("in the picture", "in this image", "in the image", "here", "there", "")),
        "{a}": str(int(rng.integers(1, 100))),
        "{b}": str(int(rng.integers(1, 100))),
    }
    for slot, word in slots.items():
        template = template.replace(slot, word)
    return vary(rng, template)


def off_topic(rng: np.random.Generator, *, with_picture: bool) -> QA:
    """One exchange that has nothing to do with the shapes."""
    kind = rng.random()
    if kind < 0.4:
        template = pick(rng, list(CHAT))
        return QA("small talk", typed(rng, vary(rng, template)), CHAT[template])
    if kind < 0.72:
        return QA("refusal: knowledge", typed(rng, _fill(rng, _KNOWLEDGE)), NO_KNOWLEDGE)
    if kind < 0.82:
        answer = NO_READING if with_picture else NO_PICTURE
        return QA("refusal: reading", typed(rng, _fill(rng, _READING)), answer)
    answer = NO_THINGS if with_picture else NO_PICTURE
    return QA("refusal: things", typed(rng, _fill(rng, _PICTURED)), answer)


def without_picture(asked: QA) -> QA:
    """What a question about shapes gets when no picture was given."""
    return QA("no picture", asked.question, NO_PICTURE)
