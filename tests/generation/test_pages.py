from __future__ import annotations

import random

import pytest

from guiju.generation.pages import Pages
from guiju.generation.prefixes import FIRST, Prefixes, page_name
from guiju.generation.tables import PageKeeper, PageTable


def _keeper(count=12, page_tokens=4):
    copied = []
    keeper = PageKeeper(count, page_tokens, lambda source, target: copied.append((source, target)))
    return keeper, copied


def test_a_table_takes_pages_beside_each_other_where_there_are_some():
    keeper, _ = _keeper()
    first, second = PageTable(keeper), PageTable(keeper)
    first.promise(20)
    second.promise(20)
    for end in (4, 8, 12, 20):  # by turns, and yet in rows
        assert first.prepare(0, end)
        assert second.prepare(0, end)
    assert first.pages == [0, 1, 2, 3, 4]
    assert second.pages == [5, 6, 7, 8, 9]


def test_promised_pages_go_to_others_when_nothing_else_is_free():
    keeper, _ = _keeper(count=4)
    first, second = PageTable(keeper), PageTable(keeper)
    first.promise(16)
    assert first.prepare(0, 4)
    assert second.prepare(0, 12)
    assert sorted(first.pages + second.pages) == [0, 1, 2, 3]
    assert not first.prepare(4, 8)
    second.release()
    assert first.prepare(4, 8)


def test_a_shared_page_is_copied_by_whoever_writes_first_and_by_no_one_after_the_last():
    keeper, copied = _keeper()
    first = PageTable(keeper)
    assert first.prepare(0, 6)
    twins = [first.fork(), first.fork()]
    assert first.pages == twins[0].pages == twins[1].pages
    for table in (first, *twins):
        assert table.prepare(6, 7)
    assert [source for source, _ in copied] == [1, 1]  # the third is the page's only holder
    assert {first.pages[0], twins[0].pages[0], twins[1].pages[0]} == {0}
    assert len({first.pages[1], twins[0].pages[1], twins[1].pages[1]}) == 3


def test_the_longest_unused_content_is_given_up_first_and_its_name_is_forgotten():
    pages = Pages(3)
    taken = [pages.take()[0] for _ in range(3)]
    assert pages.take() is None
    for page in (taken[2], taken[0], taken[1]):
        pages.release(page, keep=True)
    pages.share(taken[2])  # used again, so it is no candidate
    assert [pages.take(), pages.take(), pages.take()] == [(taken[0], True), (taken[1], True), None]


def test_names_of_pages_differ_by_their_content_and_by_what_comes_before():
    names = {
        page_name(FIRST, (1, 2)),
        page_name(FIRST, (2, 1)),
        page_name(page_name(FIRST, (1, 2)), (1, 2)),
        page_name(page_name(FIRST, (2, 1)), (1, 2)),
    }
    assert len(names) == 4
    prefixes = Prefixes()
    name = page_name(FIRST, (1, 2))
    prefixes.add(name, 5)
    prefixes.add(name, 6)  # the same content a second time
    assert prefixes.find(name) == 5
    assert not prefixes.holds(6)
    prefixes.forget(5)
    assert prefixes.find(name) is None


@pytest.mark.parametrize("seed", range(3))
def test_no_page_is_lost_or_written_by_two_whatever_tables_do(seed):
    chance = random.Random(seed)
    keeper, _ = _keeper(count=30)
    tables: list[tuple[PageTable, int]] = []
    for _ in range(1500):
        action = chance.random()
        if action < 0.3:
            table = PageTable(keeper)
            if chance.random() < 0.5:
                table.promise(chance.randint(1, 40))
            tables.append((table, 0))
        elif tables:
            place = chance.randrange(len(tables))
            table, length = tables.pop(place)
            if action < 0.7:
                more = length + chance.randint(1, 6)
                if table.prepare(length, more):
                    length = more
                    written = set(table.pages[(length - 1) // 4 :])
                    assert all(written.isdisjoint(other.pages) for other, _ in tables)
                tables.append((table, length))
            elif action < 0.8:
                tables += [(table, length), (table.fork(), length)]
            else:
                for page in table.pages:
                    if chance.random() < 0.3:
                        keeper.prefixes.add(chance.randbytes(8), page)
                table.release()
        held = {page for table, _ in tables for page in table.pages}
        assert keeper.pages.available == 30 - len(held)
        for page in held:
            assert keeper.pages.holders(page) == sum(page in table.pages for table, _ in tables)
    for table, _ in tables:
        table.release()
    assert keeper.pages.available == 30
