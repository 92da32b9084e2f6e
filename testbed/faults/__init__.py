"""Faults on real hosts, under load: what is broken, when, and what is left of the users' peace afterwards.

`python -m testbed.faults` plays cases: an operator deploys or rolls back under load, something breaks at an exact
moment, and a plain `inv deploy` follows. `python -m testbed.faults.soak` does so at random, for long.

The rooms: `operator` is a deploy that can be watched event by event, and killed; `relay` a link that can be cut;
`inventory` all that lies on a host, and what of it should not; `bed` the fleet with its project; `cases` what is
broken and when; `matrix` the result, `record` that of several runs. `altered` is the operator with one thing changed,
and `plants` asks whether the judges here find a bug when there is one.
"""
