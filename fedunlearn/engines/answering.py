"""How one message becomes one reply: the same on every engine, whatever the client does."""

from __future__ import annotations

import copy
import logging
import traceback
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from flwr.app import Context, Error, Message
from flwr.app.user_config import UserConfigValue
from flwr.clientapp import ClientApp

from fedunlearn.engines.flower_compat import PARTITION_ID_KEY, ErrorCode
from fedunlearn.engines.torch_threads import use_one_torch_thread
from fedunlearn.engines.worker_thread import Overdue, WorkerThread
from fedunlearn.errors import FedunlearnError, SettingsError
from fedunlearn.flower_messages import copy_records, envelope

ClientAppSource = ClientApp | Callable[[], ClientApp]
"""A ClientApp, or an importable function without arguments that returns one."""

RunConfig = Mapping[str, UserConfigValue]

client_log = logging.getLogger("fedunlearn.clients")
# The sentence reaches the caller in the reply; the traceback is for those who configure logging.
client_log.addHandler(logging.NullHandler())

_LONGEST_SENTENCE = 300


@lru_cache(maxsize=8)
def _built(factory: Callable[[], ClientApp]) -> ClientApp:
    return factory()


def load_client_app(source: ClientAppSource) -> ClientApp:
    """Return the ClientApp, calling a factory once in each process.

    Raises:
        SettingsError: the source is not a ClientApp and does not return one.
    """
    app = source if isinstance(source, ClientApp) else _built(source)
    if not isinstance(app, ClientApp):
        raise SettingsError(
            f"client_app gave a {type(app).__name__}: pass a flwr.clientapp.ClientApp or a function "
            "without arguments that returns one"
        )
    return app


def forget_client_apps() -> None:
    """Let `load_client_app` call factories again."""
    _built.cache_clear()


def client_name(context: Context) -> str:
    """What a person calls the client: by its partition where there is one, else by its node."""
    partition = context.node_config.get(PARTITION_ID_KEY)
    return f"client on node {context.node_id}" if partition is None else f"client {partition}"


def overdue_sentence(name: str, timeout: float) -> str:
    """The sentence for a client that took longer than `timeout` seconds."""
    return f"{name} did not answer within {timeout:g} s"


def error_reply(message: Message, code: int, sentence: str) -> Message:
    """A reply that carries an error instead of content."""
    return Message(Error(code, sentence), reply_to=message)


def answer(
    client_app: ClientAppSource, message: Message, context: Context, asked: Message | None = None
) -> tuple[Message, bool]:
    """The client's reply to `message`, and whether `context.state` is what the client left.

    Whatever it raises becomes an error reply; the state may then be anything, and the one before holds. The reason of
    such a reply is one sentence, a line break, and the traceback (`settle` splits them).

    Args:
        client_app: what answers.
        message: the client's own: records that nobody else holds, around arrays that may be shared.
        context: the client's own.
        asked: the same message as the client does not see it; None: there is no other.
    """
    use_one_torch_thread()
    # The client may change what it was sent, and raise then.
    asked = asked or envelope(message)
    try:
        reply = load_client_app(client_app)(message, context)
        wrong = wrong_reply(reply, message.metadata.message_id)
        if wrong is not None:
            raise wrong
        return reply, True
    except KeyboardInterrupt:
        # Ctrl-C is for the person who runs this, not a failure of the client.
        raise
    except BaseException as error:
        left = isinstance(error, SystemExit)
        code = ErrorCode.CLIENT_APP_CRASHED if left else ErrorCode.CLIENT_APP_RAISED_EXCEPTION
        reason = f"{_sentence(client_name(context), error)}\n{traceback.format_exc()}"
        return error_reply(asked, code, reason), False


def wrong_reply(reply: object, message_id: str) -> Exception | None:
    """What is wrong with an answer to the message of that id; None when nothing is."""
    if not isinstance(reply, Message):
        return TypeError(f"its function returned a {type(reply).__name__} where a Message was expected")
    if reply.metadata.reply_to_message_id != message_id:
        return ValueError("its reply does not answer the message: build it with Message(..., reply_to=message)")
    return None


def settle(reply: Message) -> Message:
    """Reduce an error reply to its sentence and put the traceback into the client log."""
    if reply.has_error():
        sentence, _, details = (reply.error.reason or "a client failed without a reason").partition("\n")
        client_log.error("%s", f"{sentence}\n{details}" if details else sentence)
        reply.error = Error(reply.error.code, sentence)
    return reply


class GuardedClientApp(ClientApp):
    """A ClientApp that answers every message within `timeout` seconds and never raises.

    For engines that call the ClientApp themselves, in processes of their own.
    """

    def __init__(self, client_app: ClientAppSource, run_config: RunConfig, timeout: float | None) -> None:
        super().__init__()
        self._source = client_app
        self._run_config = dict(run_config)
        self._timeout = timeout

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer one message."""
        # Flower refuses a context whose run_config was changed, so the client gets another one.
        own = copy.copy(context)
        own.run_config = dict(self._run_config)
        own.state = copy_records(context.state)
        name = client_name(context)
        if self._timeout is None:
            reply, sound = answer(self._source, message, own)
        else:
            worker = WorkerThread(name)
            try:
                reply, sound = worker.run(partial(answer, self._source, message, own), self._timeout)
            except Overdue as overdue:
                return error_reply(message, ErrorCode.CLIENT_APP_CRASHED, overdue_sentence(name, overdue.timeout))
            finally:
                worker.close()
        if sound:
            context.state = own.state
        return reply


def _sentence(name: str, error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"{name} left its process with exit status {error.code if error.code is not None else 0}"
    text = " ".join(str(error).split())
    if len(text) > _LONGEST_SENTENCE:
        text = text[:_LONGEST_SENTENCE] + "…"
    if isinstance(error, FedunlearnError):
        # A client's own sentence needs no class name, and often names the client already.
        return text if text.startswith(name) else f"{name}: {text}"
    return f"{name} raised {type(error).__name__}" + (f": {text}" if text else "")
