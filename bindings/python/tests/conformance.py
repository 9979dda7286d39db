"""The runner of the conformance table (conformance/README.md): conformance.py CASES SERVER DIRECTORY."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import audit_logger

PATTERNS = {
    "$text": r"(?s).+",
    "$uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "$hash": r"[0-9a-f]{64}",
    "$timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",
}
ABSENT = object()


class Skipped(Exception):
    pass


class Wrong(Exception):
    pass


def matches(wanted: Any, came: Any) -> bool:
    if wanted == "$any":
        return True
    if wanted == "$absent":
        return came is ABSENT
    if wanted == "$number":
        return isinstance(came, (int, float)) and not isinstance(came, bool) and came >= 0
    if isinstance(wanted, str) and wanted in PATTERNS:
        return isinstance(came, str) and re.fullmatch(PATTERNS[wanted], came) is not None
    if isinstance(wanted, dict):
        return isinstance(came, dict) and all(
            matches(value, came.get(name, ABSENT)) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(came, list) and len(came) == len(wanted) and all(map(matches, wanted, came))
    return type(wanted) is type(came) and bool(wanted == came) or (
        isinstance(wanted, (int, float)) and isinstance(came, (int, float)) and wanted == came
    )


class Came:
    """What a step came to."""

    def __init__(self) -> None:
        self.reply = audit_logger.Reply("AUDIT_OK")
        self.error_class: Optional[str] = None
        self.report: Optional[str] = None
        self.text: Optional[str] = None
        self.chunks: List[Any] = []

    def of(self, function: Callable[[], None]) -> "Came":
        try:
            function()
        except audit_logger.AuditError as error:
            self.failed(error)
        return self

    def failed(self, error: audit_logger.AuditError) -> None:
        self.reply = error.reply
        if isinstance(error, audit_logger.OpenAIError):
            self.error_class = type(error).__name__

    def check(self, expect: Dict[str, Any]) -> None:
        reply = self.reply
        entry = None if reply.entry is None else json.loads(reply.entry)
        deltas = [
            choice["delta"]["content"]
            for chunk in self.chunks
            for choice in chunk["choices"]
            if choice["delta"].get("content")
        ]
        text = reply.content if self.text is None else self.text
        report = reply.json if self.report is None else self.report
        of: Dict[str, Callable[[Any], bool]] = {
            "status": lambda wanted: bool(wanted == reply.status),
            # Classes of Python's own, which no class of the package's is named by, are the reply's to say.
            "error_type": lambda wanted: wanted == reply.error_type
            and self.error_class in (None, wanted, "APIResponseValidationError"),
            "message": lambda wanted: wanted in reply.error_message,
            "text": lambda wanted: bool(wanted == text),
            "text_json": lambda wanted: matches(wanted, json.loads(text or "")),
            "json": lambda wanted: matches(wanted, json.loads(report or "null")),
            "reply": lambda wanted: all(
                matches(value, getattr(reply, name)) for name, value in wanted.items()
            ),
            "entry": lambda wanted: matches(wanted, entry),
            "line": lambda wanted: wanted in (reply.entry or ""),
            "deltas": lambda wanted: bool(wanted == deltas or ("chunks" in expect and wanted == [])),
            "chunks": lambda wanted: matches(wanted, self.chunks),
        }
        for name, wanted in expect.items():
            if not of[name](wanted):
                raise Wrong(f"{name}: {wanted!r} was expected, and this came: {reply} {self.chunks} {text!r}")


class Case:
    def __init__(self, case: Dict[str, Any], server: str, directory: Path) -> None:
        self.case = case
        self.log = directory / case["name"].replace("/", "-")
        self.texts = {"$SERVER": server, "$LOG": str(self.log), "$CASE": case["name"]}
        self.calls: Dict[str, Any] = {}
        self.pending: Dict[str, audit_logger.Pending] = {}
        self.held: List[str] = []
        self.is_closed = False

    def filled(self, value: Any, **more: str) -> Any:
        if isinstance(value, dict):
            if list(value) == ["$text"]:
                parts = value["$text"]
                return "".join(text * count for text, count in zip(parts[::2], parts[1::2]))
            return {name: self.filled(item, **more) for name, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item, **more) for item in value]
        if isinstance(value, str):
            for name, text in {**self.texts, **more}.items():
                value = value.replace(name, text)
        return value

    def chat(self, request: Dict[str, Any], came: Came, stop_after: Optional[int] = None) -> None:
        """By create, where that can say it: messages, and nothing beside them that isn't its own."""
        params = dict(request.get("params") or {})
        stream = bool(request.get("stream"))
        if stream and request["stream"] != True:  # noqa: E712: "chunks"
            params.setdefault("stream_options", {"include_usage": True})
            request = {**request, "params": params}
        made: Any
        if set(request) <= {"user_id", "model", "metadata", "params", "stream"} and "messages" in params:
            only = {name: request[name] for name in ("user_id", "model", "metadata") if name in request}
            made = self.client.chat.completions.create(stream=stream, **only, **params)
        else:
            made = self.client.request(request)
        if isinstance(made, audit_logger.ChatCompletion):
            came.reply = made.audit
            return
        with made:
            heard = 0
            for chunk in made:
                came.chunks.append(chunk.to_dict())
                heard += any(choice.delta.content for choice in chunk.choices)
                if heard == stop_after:
                    break
        came.reply = made.audit

    async def together(self, request: Dict[str, Any]) -> Came:
        """By the asynchronous client."""
        came = Came()
        try:
            made: Any = await self.async_client.request(request)
            if isinstance(made, audit_logger.AsyncStream):
                async for chunk in made:
                    came.chunks.append(chunk.to_dict())
            came.reply = made.audit
        except audit_logger.AuditError as error:
            came.failed(error)
        return came

    async def start(self, request: Dict[str, Any]) -> "asyncio.Task[Came]":
        task = asyncio.ensure_future(self.together(request))
        await asyncio.sleep(0)
        return task

    async def step(self, step: Dict[str, Any]) -> List[Any]:
        """What it came to, each with what makes it its own."""
        do, came = step["do"], Came()
        record = self.filled(step.get("record"))
        timeout = step.get("timeout_ms", 0) / 1000
        if "request_text" in step:
            raise Skipped("the package makes the JSON of a request itself")
        if do == "together":
            numbers = [{"$N": str(number)} for number in range(step["count"])]
            started = [await self.start(self.filled(step["request"], **number)) for number in numbers]
            return [(await task, number) for task, number in zip(started, numbers)]
        if do == "sleep":
            await asyncio.sleep(step["ms"] / 1000)
        elif do == "start":
            self.calls[step["as"]] = await self.start(self.filled(step["request"]))
        elif do == "cancel":
            raise Skipped("who awaits a task that was cancelled gets asyncio.CancelledError, which has no reply")
        elif do == "await":
            came = await self.calls[step["as"]]
        elif do == "chat":
            request = self.filled(step["request"])
            came.of(lambda: self.chat(request, came, step.get("stop_after")))
        elif do == "log":
            came.of(lambda: setattr(came, "reply", self.client.logger.log(record)))
        elif do == "begin":
            came.of(lambda: self.pending.update({step["as"]: self.client.logger.begin(**record)}))
        elif do == "finish":
            came.of(lambda: setattr(came, "reply", self.pending[step["as"]].finish(**record)))
        elif do == "flush":
            came.of(lambda: self.client.logger.flush(timeout, step.get("witnessed", False)))
        elif do == "stats":
            came.of(lambda: setattr(came, "report", json.dumps(self.client.logger.stats())))
        elif do == "hash":
            came.of(lambda: setattr(came, "text", self.client.logger.hash(self.filled(step["text"]))))
        elif do == "close":
            self.is_closed = True
            try:
                await self.async_client.close(timeout)
            except audit_logger.AuditError as error:
                came.failed(error)
        else:
            raise Wrong(f"no such step: {do}")
        return [(came, {})]

    def open(self, **config: Any) -> None:
        logger = audit_logger.AuditLogger(**config)
        self.client = audit_logger.Client(logger=logger)
        self.async_client = audit_logger.AsyncClient(logger=logger)

    async def run(self) -> None:
        came = Came()
        config = {"output_path": "$LOG", "base_url": "$SERVER", "api_key": "sk-test", "max_retries": 0}
        config = self.filled({**config, **self.case.get("config", {})})
        came.of(lambda: self.open(**config))
        if came.reply.status == "AUDIT_OK":
            came.report = json.dumps(self.client.logger.opened)
        came.check(self.filled(self.case.get("open", {"status": "AUDIT_OK"})))
        for step in self.case.get("steps", ()):
            for came, more in await self.step(step):
                if came.reply.entry is not None:
                    self.held.append(came.reply.entry)
                came.check(self.filled(step.get("expect", {}), **more))
        if "steps" in self.case and not self.is_closed:
            self.client.close(30)
        lines = [line for path in self.log.glob("audit_*.jsonl") for line in path.read_text().splitlines()]
        if len(lines) != self.case["entries"]:
            raise Wrong(f"entries: {self.case['entries']} were expected, and these came: {lines}")
        missing = [entry for entry in self.held if entry not in lines]
        if missing:
            raise Wrong(f"not in the log: {missing}")


def main() -> None:
    table, server, directory = sys.argv[1:]
    failed = False
    for case in json.loads(Path(table).read_text()):
        result, reason = "pass", ""
        try:
            asyncio.run(Case(case, server, Path(directory)).run())
        except Skipped as why:
            result, reason = "skip", str(why)
        except Exception as why:
            result, reason, failed = "fail", repr(why), True
        print(json.dumps({"case": case["name"], "result": result, "reason": reason}), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
