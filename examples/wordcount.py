"""Says what a text is like: how long it takes to read, and which words carry it.

Push it and call it:

    faas push examples/wordcount.py
    curl -H 'Content-Type: text/plain' --data-binary @LICENSE http://127.0.0.1:8080/function/wordcount
"""

import re
from collections import Counter

WORDS_A_MINUTE = 240
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
FILLERS = frozenset(
    re.findall(
        r"\w+",
        """a an and any are as at be but by for from has have if in is it its may no not of on or other
        shall such that the this to was were which will with you your""",
    )
)


def handler(event, context):
    """A text, or a JSON object with a member `text`, and how many words to list as `top`."""
    text, top = (event.get("text"), event.get("top", 5)) if isinstance(event, dict) else (event, 5)
    if not isinstance(text, str):
        return {"error": 'send text/plain, or JSON such as {"text": "to be or not to be"}'}, 422
    words = [word.lower() for word in WORD.findall(text)]
    context.logger.info("counted %d words", len(words))
    return {
        "words": len(words),
        "different": len(set(words)),
        "minutes": round(len(words) / WORDS_A_MINUTE, 1),
        "longest": max(words, key=len, default=""),
        "top": Counter(word for word in words if word not in FILLERS).most_common(top),
    }
