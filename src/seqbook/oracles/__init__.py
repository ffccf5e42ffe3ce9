"""What tells whether an answer that is no number and no word is right: a module a chapter, a function an exercise.

An oracle bears its exercise's id, with underscores, takes the reader's answer, and returns a hint, or None where the
answer is right. It tests what must be true of every right answer, on inputs of its own; it compares with seqlab or
torch where they have the thing. What it raises is shown to the reader beside the exercise's hint.
"""
