"""What a database says against rows or a commit, as the failure of a node."""

import re

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.databases import failures
from pipelines.databases.places import Place

_LONGEST = 600
# What libpq appends to the server's sentence, and ADBC to that.
_APPENDED = re.compile(r"\s*(?:\bQuery was: |SQLSTATE: |\nLINE \d+:|\nCONTEXT: ).*", re.DOTALL)


def of_write(error: Exception, place: Place) -> NodeError:
    """As `failures.of_query`; it speaks of rows, and gives the server's own words alone, without the statement, which is ours."""
    known = failures.of_query(error, place)
    if known.retryable:
        return known
    text = failures.heard(error, place)
    if "ERROR:" in text:
        words = " ".join(_APPENDED.sub("", text.rpartition("ERROR:")[2]).split())[:_LONGEST].rstrip(". ")
        return NodeError(f"{place.system} refused the rows: {words}.")
    return NodeError(known.message.replace("refused the query", "refused the rows"))


def of_commit(error: Exception, place: Place) -> NodeError:
    """A commit that failed: the server's refusal, or nobody knows, and the next attempt has to look."""
    known = of_write(error, place)
    if not known.retryable:
        return known
    return TransientNodeError(f"{known.message} Whether it has kept the rows is not known; the next attempt looks.")
