"""Files of questions that never were on a disk, and judges that are functions."""

from masters.benchmarks import Judge, QuestionFile, benchmark_named
from masters.data.storage import Storage
from masters.judging.judges import Reply


def file_of(name, questions, remarks=()):
    """A file of these questions, without images."""
    return QuestionFile(
        benchmark_named(name), tuple(questions), "", tuple(remarks), Storage("/"), "", (None,) * len(questions)
    )


class Scripted:
    """A judge that replies by a function of the prompt's text and of the attempt, and keeps what it was asked."""

    def __init__(self, reply, **settings):
        self._reply, self.calls = reply, []
        self.judge = Judge("scripted", self.ask, **settings)

    def ask(self, questions):
        """One call an attempt."""
        self.calls.append(list(questions))
        texts = ["\n".join(part["text"] for message in q.chat for part in message["content"]) for q in questions]
        replies = [self._reply(text, len(self.calls) - 1) for text in texts]
        return [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]
