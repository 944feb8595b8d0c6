"""Conversation that is not about the shapes: greetings, what the model is, and honest refusals.

The refusals must hold for questions never seen in training, so they are drilled on thousands of
templated questions about arbitrary topics, many of them with made-up words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assets.training.asking import QA
from assets.training.topics import NAMES, SYLLABLES, THINGS, TOPICS
from assets.training.words import pick, typed, vary

NO_PICTURE = "I don't see a picture yet. Please add one with simple shapes."
NO_READING = "Sorry, I can't read text in pictures. I only know simple shapes."
NO_THINGS = "Sorry, I can't recognise people, animals or things. I only know simple shapes."
NO_KNOWLEDGE = "Sorry, I don't know. I only answer questions about simple pictures of shapes."

GREETING = "Hello! Ask me about a picture of simple shapes."
WELCOME = "You are welcome!"
FAREWELL = "Goodbye!"
WELL = "I am fine, thank you. Shall we look at a picture?"
IDENTITY = "I am Snug's small starter model. I answer questions about simple pictures of shapes."
ABILITIES = "I can name shapes and colours, count them, find the biggest and say where they are."
LIMITS = "I am very small and can be wrong. I can't read text or recognise people or real things."
MACHINE = "I am a very small computer model, not a person."
ORIGIN = "I was trained on drawn pictures of shapes, and I come with Snug."
APOLOGY = "Sorry, I am small and make mistakes. Please try another question."
MODEST_THANKS = "Thank you!"
PROMPT = "What would you like to know about the picture?"
CHAT: dict[str, str] = {
    "(|||Oh |Well |Ah )(Hello|Hi|Hey|Good (morning|evening|afternoon|day)|Greetings|Hiya|Yo|Howdy"
    "|Hello|Hi|Nice to meet you|Pleased to meet you)(||| there| Snug| again| to you| everyone"
    "| my friend| friend| model| hello| hi)(!|.||)": GREETING,
    "(||||Ok |Great, |Perfect, |Wow |Nice, |Oh )(Thanks|Thank you|Many thanks|Thx|Cheers"
    "|Thanks|Thank you)(||| a lot| very much| so much| again| for (your help|that|the help|everything"
    "|answering)| Snug| friend|, (that|it) (was|is) (great|good|helpful|nice|kind|very helpful)"
    "|, that helps|, well done)(!|.||)": WELCOME,
    "That (helps|helped|was (helpful|useful|kind|a good answer))( a lot|)(!|.||)": WELCOME,
    "(||||Ok |Well |Thanks, |Great, |Ok then |Thank you, |I must go, )(Bye|Goodbye|See you|Good night"
    "|Bye bye|Farewell|Take care|Talk to you|Until|Have a nice (day|evening|weekend))(||| now| for now"
    "| later| Snug| then| tomorrow| soon| next time| again| friend)(!|.||)": FAREWELL,
    "(||I have to|I must|I need to|I will) (leave|go|go home|stop|quit)( now| soon| today||)"
    "(, bye|, goodbye||)(!|.||)": FAREWELL,
    "(|||Hello, |Hi, |So |And )(How are you( feeling| doing|)|How is it going|How do you (do|feel)"
    "|Are you (ok|well|fine|all right)|What's up|How's (life|it going|your day)|How was your day"
    "|How have you been)( today| now| Snug| this morning|||)?": WELL,
    "(||||So |And |Hello, |Wait, )(Who are you|What are you|What (is|are) (this|you)( program| model|)"
    "|Who am I (talking|speaking|chatting) (to|with)|Tell me about yourself|Introduce yourself"
    "|(What kind of|Which) (model|program|assistant|AI) (are you|is this)|Who is Snug|What is Snug"
    "|(What is|What's|Tell me|May I know) your name|Do you have a name|What (should|do|can) I call you"
    "|Please introduce yourself|Say something about yourself)( exactly| really| please||||)?": IDENTITY,
    "(||||So |And |Now |Please, )(What can you (do|see|tell me|answer|help with)|How can you help( me|)"
    "|What can I ask( you|)|Help( me|)|What do you (know|understand)|What are you good at"
    "|What should I ask( you|)|How do I use (you|this)|What are your (skills|abilities|strengths)"
    "|(What|Which|What kinds of|What sort of) questions (can|should|may) I ask( you|)|Can you help( me|)"
    "|How does this work|What is possible|What are you (for|able to do)|What do you do)"
    "( for me| here| exactly| in a picture| then||||)?": ABILITIES,
    "(|||Please |Hello, |OK, )(Tell me|Show me|Explain|Say) (how you (can help|work|are used)"
    "|what (you know|you understand|you are good at|you are made for|I can ask|I may ask|questions you take))"
    "( please| first|||)(.|)": ABILITIES,
    "(|||Please )(Describe|List|Explain|Tell me|Name|What about) your (skills|abilities|features|talents"
    "|capabilities|functions|purpose)( please||)(.||?)": ABILITIES,
    "(|||So |And )(Which|What) (tasks|jobs|things|kinds of pictures|pictures) (can you (do|handle|solve"
    "|understand|work with)|are you (made|good|built|meant) for"
    "|do you (handle|understand|manage))?": ABILITIES,
    "(||||So |And |But )(What (can't|can not) you do|What are (your|the) (limits|limitations|weaknesses)"
    "|What (do|don't) you not (know|understand|see)|What are you (bad at|not good at|not able to do"
    "|unable to do)|(Can|Should) I (trust|believe|rely on) (you|your answers|that|this)"
    "|Are you (always right|ever wrong|reliable|accurate|perfect)|Do you (make|ever make) mistakes"
    "|Are you sure|Is that (right|true|correct)|Really|How (good|accurate|smart|reliable) are you"
    "|Which things can't you do)( about (it|that)| then||||)?": LIMITS,
    "(|||So |And |But )(What (is|are) (hard|difficult|impossible|too much) for you|(Where|When) do you (fail"
    "|err|go wrong|make mistakes)|(Can|Could|Might) you (be wrong|fail|err|get it wrong|make a mistake)"
    "|(Is there (something|anything)|Are there things) you (can't|can not|don't) (do|see|know|understand)"
    "|How often are you (right|wrong)|What (questions|pictures) are (too hard|hard|difficult) for you"
    "|What do you (find hard|get wrong|fail at|struggle with))( sometimes|||)?": LIMITS,
    "(||||So |But |Wait, )Are you (a |an |the |some |just a |)(real |living |true ||||)(human|person|robot"
    "|AI|machine|computer|bot|program|chatbot|human being|man|woman|alive|conscious|intelligent|real"
    "|living thing|ChatGPT|large language model|software)( like me| or not||||)?": MACHINE,
    "(||So )Do you (have (feelings|a body|eyes|a brain|a soul|friends|a family)|dream|sleep|eat|feel pain"
    "|think|get tired)( too| sometimes|||)?": MACHINE,
    "(|||So |And )(Who|Which company|What company) (made|built|created|trained|developed|programmed"
    "|designed|wrote) (you|this model|this program|Snug|this)( exactly||||)?": ORIGIN,
    "(|||So |And )(How were you (made|trained|built)|Where do you come from|Who is your (maker|creator"
    "|developer|boss|owner)|What were you trained on|When were you (made|trained|built)|How did you learn"
    "( this| that|)|What is your (training|training data))( exactly||||)?": ORIGIN,
    "(|||No, |But |Sorry, )(You are (so |very |really ||)(wrong|stupid|bad|useless|dumb|silly|terrible)"
    "|(That|This|It) is (wrong|not right|not true|nonsense|incorrect|not correct|false|a mistake)"
    "|Wrong|No|That's not (correct|right|it)|You made a mistake|(Bad|Wrong|Terrible) answer|Nonsense"
    "|I hate you|Try again|I don't (believe|like) (you|it|that)|You failed)(!|.||)": APOLOGY,
    "(||||Wow, |Oh, |Yes, )(Good (job|work|answer|one)|Well done|Great|Nice( work| one|)|Awesome|Cool"
    "|You are (so |very |really ||)(great|smart|clever|nice|cute|good|kind|funny|right)|I like (you|it"
    "|that)|Wow|(Very|Really) good|Excellent|Correct|(That|This) is (right|correct|great|good|amazing)"
    "|I love (you|it)|Perfect|Amazing|Impressive|Fantastic|Brilliant)(!|.||)": MODEST_THANKS,
    "(OK|Okay|Yes|I see|All right|Fine|Sure|Got it|Hmm|Understood|Right|Aha|Go on|Let's (go|start"
    "|begin)|Here is a picture|I have a (question|picture)|One more( question|)|Next|Let me think"
    "|I want to ask (you |)something)(!|.||)": PROMPT,
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
