"""One execution's side of the pools: which of its nodes wish for a slot, which wait for one, and which may start."""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from runs import pools

_POLL_SECONDS = 0.25  # how soon a slot is noticed that another process gave back


class Slots:
    """Of one run. A node waits in a pool's queue only while its run could start it: a turn that nobody can use would block others."""

    def __init__(self, run_id: UUID, pool_of: Mapping[str, str]) -> None:
        self._run_id = run_id
        self._pool_of = pool_of  # by node; nodes without a pool are not in it
        self.waiting: dict[str, str] = {}  # the pool by node, of its tickets that wait
        self.look_at = 0.0  # monotonic time of the next look whether a slot is free
        self._gave_back = False

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._pool_of

    def __bool__(self) -> bool:
        """Whether any node of the run has a pool. One without needs none of this."""
        return bool(self._pool_of)

    def reload(self) -> None:
        """Take the state from the database."""
        if self:
            self.waiting = pools.waiting_nodes(self._run_id)

    def must_ask(self, ready: Sequence[str], places: int) -> bool:
        """Whether `choose` has something to do, without a look at the database: something may start, wish, or wait no longer."""
        wishes = self._wishes(ready, places)
        return wishes.keys() != self.waiting.keys() or (places > 0 and any(node_id not in self for node_id in ready))

    def choose(self, ready: Sequence[str], places: int) -> list[str]:
        """Those that start now, `places` at most, of the nodes that are ready, in order. Call inside `transitions.fenced`."""
        wishes = self._wishes(ready, places)
        held = pools.ask(self._run_id, wishes) if wishes else frozenset()
        chosen = [node_id for node_id in ready if node_id not in self or node_id in held][: max(0, places)]
        kept = self._wishes([node_id for node_id in ready if node_id in wishes and node_id not in chosen], places - len(chosen))
        self.give_back((wishes.keys() | self.waiting.keys()) - kept.keys() - set(chosen))
        self.waiting, self.look_at = kept, time.monotonic() + _POLL_SECONDS
        return chosen

    def give_back(self, node_ids: Collection[str]) -> None:
        """Slots and places in the queue. Call inside `transitions.fenced`."""
        own = [node_id for node_id in node_ids if node_id in self]
        if own:
            pools.give_back(self._run_id, own)
            self._gave_back = True

    def has_turn(self, *, now: bool) -> bool:
        """Whether a slot may be free for a node that waits. Looks at the database when its time has come, or `now`."""
        if not self.waiting or not (now or time.monotonic() >= self.look_at):
            return False
        self.look_at = time.monotonic() + _POLL_SECONDS
        return pools.has_turn(self._run_id, set(self.waiting.values()))

    def take_news(self) -> bool:
        """Whether something was given back since the last call."""
        news, self._gave_back = self._gave_back, False
        return news

    def _wishes(self, ready: Sequence[str], places: int) -> dict[str, str]:
        """Of each pool as many nodes as there are places, the first ones: which pool gives a slot first is not known."""
        wished: Counter[str] = Counter()
        wishes = {}
        for node_id in ready:
            pool = self._pool_of.get(node_id)
            if pool is not None and wished[pool] < places:
                wished[pool] += 1
                wishes[node_id] = pool
        return wishes
