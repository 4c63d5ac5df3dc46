from __future__ import annotations

import asyncio

from klamm.broker.answer_budget import AnswerBudget


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_connection_waits_while_its_answers_are_unread_and_others_do_not() -> None:
    async def main() -> None:
        budget = AnswerBudget(100)
        served: list[int] = []

        async def ask(number: int) -> None:
            await budget.admit("deaf")
            budget.hold("deaf", 60)
            served.append(number)

        tasks = [asyncio.create_task(ask(number)) for number in range(6)]
        await _settle()
        assert served == [0, 1]
        await asyncio.wait_for(budget.admit("other"), 1)
        budget.release("deaf", 60)
        await _settle()
        assert served == [0, 1, 2]
        tasks[3].cancel()
        budget.release("deaf", 60)
        budget.release("deaf", 60)
        await _settle()
        assert served == [0, 1, 2, 4, 5]
        await asyncio.wait(tasks)

    asyncio.run(main())


def test_nothing_is_kept_of_a_connection_that_is_through() -> None:
    async def main() -> None:
        budget = AnswerBudget(10)
        budget.hold("a", 20)
        waiter = asyncio.create_task(budget.admit("a"))
        await _settle()
        budget.release("a", 20)
        await waiter
        assert not budget._held
        assert not budget._waiting

    asyncio.run(main())
