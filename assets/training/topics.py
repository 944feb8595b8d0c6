"""Words for questions that the model must decline: names, topics, things, syllables."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    """Comma-separated words, line breaks ignored."""
    return tuple(word.strip() for word in text.split(","))


NAMES = _words(
    """
    Einstein, Mozart, Obama, Shakespeare, the president, the king, the queen, Napoleon,
    Messi, my mother, my friend, Newton, Picasso, Elvis, Santa Claus, the mayor, Beyonce,
    Gandhi, Cleopatra, Darwin, my boss, the Pope, Harry Potter, Batman, Buddha, Confucius,
    Tesla, Marie Curie, Madonna, Plato
    """
)
TOPICS = _words(
    """
    the weather, football, music, history, politics, money, love, cooking, cars, physics,
    chemistry, school, the moon, the sun, Mars, France, China, Paris, London, Berlin, Tokyo,
    America, the sea, computers, Python, the internet, the news, the stock market, bitcoin,
    health, medicine, the economy, art, war, peace, God, dinosaurs, space, black holes,
    gravity, energy, electricity, chess, poetry, philosophy, the future, time, life, death,
    movies, books, games, coffee, tea, wine, pizza, bread, rice, sports, tennis, dancing,
    travel, trains, planes, ships, bicycles, elephants, cats, dogs, birds, fish, whales,
    trees, flowers, mountains, rivers, rain, snow, fire, water, gold, iron, oil, DNA, atoms,
    bacteria, vaccines, sleep, dreams, language, grammar, French, Spanish, German, Chinese,
    mathematics, algebra, geometry, statistics, tax, law, crime, marriage, children,
    parents, friends, work, jobs, salaries, shopping, clothes, shoes, fashion, the match,
    the game, the election, the war, the world, the universe, the past, the city, the road,
    the train, the bus, my homework, my phone, my car, my house, my dog, my job, the price
    of oil
    """
)
THINGS = _words(
    """
    cat, dog, person, man, woman, child, car, tree, house, bird, fish, horse, flower, table,
    chair, phone, computer, bus, train, plane, boat, bicycle, ball, cup, bottle, book,
    clock, lamp, bed, door, window, road, mountain, river, cloud, face, hand, hat, shirt,
    shoe, elephant, lion, cow, sheep, pizza, apple, banana, sandwich, cake, sign, building,
    bridge, camera, dress, baby, boy, girl, robot, dragon, snake, spider
    """
)
SYLLABLES = _words(
    """
    ba, ko, ri, ten, shu, lo, mar, vi, den, qua, zel, po, tra, um, ness, ing, el, or, ta,
    mi, sto, gen, pha, ler, an, du, fo, gra, hy, jo, kel, nu, ple, sis, tion, wa, ex, yr,
    com, per, th, ch
    """
)
