"""The registry itself: reads from memory, writes to the store, tells the watchers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.registry.core.catalog import Catalog, Resolution
from services.registry.core.directory import plan_directory, read_directory
from services.registry.core.document import Document, nearest
from services.registry.core.encoding import to_json
from services.registry.core.errors import (
    InvalidPrompt,
    InvalidRequest,
    PromptNotFound,
    RequestIdReused,
    StorageUnavailable,
)
from services.registry.core.feed import Feed
from services.registry.core.json_text import canonical
from services.registry.core.paging import Page, page_of
from services.registry.core.ports import ChooseArm, Clock, Executor, Observer, PastRequest, Store, Templates
from services.registry.core.prompt import Message, Prompt, PublishedPrompt, Version
from services.registry.core.publishing import plan_publish
from services.registry.core.references import Reference, parse_reference
from services.registry.core.validation import CheckedPrompt, Limits, check

_MAX_COLLISIONS = 10


@dataclass(frozen=True, slots=True)
class Publication:
    """A request to publish. `version` is text, empty for the smallest legal one."""

    request_id: str
    prompt: Prompt
    version: str = ""
    environments: tuple[str, ...] = ()
    publisher: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """The version, and whether this request created it."""

    prompt: PublishedPrompt
    created: bool


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything the registry needs from outside."""

    store: Store
    templates: Templates
    choose_arm: ChooseArm
    executor: Executor
    clock: Clock
    observer: Observer


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration decides."""

    limits: Limits
    environments: tuple[str, ...]
    request_retention: timedelta
    max_page_bytes: int
    max_watchers: int


class Registry:
    """Serves reads from a catalog in memory, at most one poll older than the store, also while the store is down.

    A reference that the catalog does not know asks the store once before it is refused, so a version that another
    replica has just published is found at once.
    """

    def __init__(self, ports: Ports, rules: Rules) -> None:
        """Call `refresh` or `publish_directory` before the first read."""
        self._ports = ports
        self._rules = rules
        self._catalog = Catalog()
        self._feed = Feed(rules.max_watchers)
        self._publishing = asyncio.Lock()
        self._loading = asyncio.Lock()
        self._loads_begun = 0

    @property
    def watchers(self) -> int:
        """How many watches are open."""
        return self._feed.watchers

    async def refresh(self) -> None:
        """Brings the catalog to the store's newest revision. Callers that wait together share one look.

        Raises:
            StorageUnavailable: the catalog stays as it is.
        """
        begun_before = self._loads_begun
        async with self._loading:
            if self._loads_begun > begun_before:
                return  # a look that began after this call has ended
            self._loads_begun += 1
            known = self._catalog
            change = await self._ports.store.load(known.revision)
            if change is None:
                return
            restored = change.revision < known.revision
            self._install((Catalog() if restored else known).with_change(change))

    async def follow(self, poll_interval_s: float) -> None:
        """Refreshes for ever: how changes of other replicas arrive. A store that is down is asked again."""
        answered = True
        while True:
            await asyncio.sleep(poll_interval_s)
            try:
                await self.refresh()
            except StorageUnavailable as error:
                answered = False
                self._ports.observer.refresh_failed(error)
            else:
                if not answered:
                    answered = True
                    self._ports.observer.refresh_recovered()

    async def publish_directory(self, documents: Sequence[Document]) -> None:
        """Publishes a prompt directory in one transaction; what is published already stays.

        Raises:
            InvalidFiles: nothing was published.
            StorageUnavailable: nothing is known about the outcome; publishing again is safe.
        """
        ports, rules = self._ports, self._rules
        directory = await ports.executor.run(
            read_directory, documents, rules.environments, ports.templates, rules.limits
        )
        async with self._publishing:
            for _ in range(_MAX_COLLISIONS):
                await self.refresh()
                known = self._catalog
                change = await ports.executor.run(plan_directory, known, directory, ports.clock.now(), rules.limits)
                if change.empty:
                    return
                if await ports.store.commit(change, known.revision, None):
                    await self.refresh()
                    return
        raise _collided()

    async def publish(self, publication: Publication) -> Published:
        """Publishes a version and moves environments; see `plan_publish` for the rules.

        Raises:
            InvalidPrompt, InvalidRequest, VersionExists, VersionTooLow, RequestIdReused: nothing was published.
            StorageUnavailable: nothing is known about the outcome; the same request again is safe.
        """
        version = self._check_request(publication)
        ports, rules = self._ports, self._rules
        try:
            checked = await ports.executor.run(check, publication.prompt, ports.templates, rules.limits)
            async with self._publishing:
                return await self._publish_checked(publication, checked, version)
        except InvalidPrompt as error:
            raise InvalidPrompt([(f"prompt.{field}", problem) for field, problem in error.field_violations]) from None

    async def find(self, reference_text: str, sticky_key: str = "") -> Resolution:
        """What a reference means.

        Raises:
            InvalidRequest: it is no reference.
            PromptNotFound: it names nothing.
            StorageUnavailable: memory does not know it, and the store cannot be asked.
        """
        reference = parse_reference(reference_text)
        try:
            return self._resolve(reference, sticky_key)
        except PromptNotFound:
            await self.refresh()
            return self._resolve(reference, sticky_key)

    async def render(self, prompt: Prompt, values: Mapping[str, str]) -> list[Message]:
        """The messages with every hole filled. Raises an error that names every bad variable at once."""
        texts = await self._ports.executor.run(self._ports.templates.render, prompt, values)
        return [Message(message.role, text) for message, text in zip(prompt.messages, texts, strict=True)]

    def page(
        self, prompt_name: str, page_size: int, page_token: str, environments: frozenset[str] = frozenset()
    ) -> Page:
        """Versions by name, newest first; with `environments`, those that are served in one of them.

        Raises InvalidRequest for a token of another request.
        """
        listed = self._catalog.newest_first(prompt_name)
        if environments:
            served = self._catalog.served_in(environments)
            listed = (each for each in listed if (each.name, each.version) in served)
        return page_of(listed, prompt_name, page_size, page_token, self._rules.max_page_bytes)

    def watch(self) -> AsyncGenerator[Catalog, None]:
        """The catalog now and after each change. Raises TooManyWatchers, and ShuttingDown at the end."""
        return self._feed.watch()

    async def drain(self) -> None:
        """Ends every watch, so that watchers turn to another replica at once."""
        self._feed.close()

    def _resolve(self, reference: Reference, sticky_key: str) -> Resolution:
        return self._catalog.resolve(reference, sticky_key, self._ports.choose_arm)

    def _install(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._feed.show(catalog)
        self._ports.observer.changed(catalog.revision)

    def _check_request(self, publication: Publication) -> Version | None:
        if "\x00" in publication.request_id:
            raise InvalidRequest("request_id", "must not contain a NUL character")
        known = self._rules.environments
        for index, environment in enumerate(publication.environments):
            if environment not in known:
                problem = f"is not an environment of this registry{nearest(environment, known)}"
                raise InvalidRequest(f"activate_environments[{index}]", problem)
        if not publication.version:
            return None
        version = Version.parse(publication.version)
        if version is None:
            raise InvalidRequest("prompt.version", "must read 2.1, without leading zeros")
        return version

    async def _publish_checked(
        self, publication: Publication, checked: CheckedPrompt, version: Version | None
    ) -> Published:
        ports, payload = self._ports, _payload_digest(publication)
        await ports.store.forget_requests(ports.clock.now() - self._rules.request_retention)
        for _ in range(_MAX_COLLISIONS):
            past = await ports.store.find_request(publication.request_id)
            await self.refresh()
            if past is not None:
                return self._answer_again(past, payload)
            known = self._catalog
            plan = await ports.executor.run(
                plan_publish, known, checked, version, publication.environments, ports.clock.now(), self._rules.limits
            )
            request = PastRequest(
                publication.request_id,
                payload,
                plan.published.name,
                plan.published.version,
                plan.created,
                ports.clock.now(),
            )
            if await ports.store.commit(plan.change, known.revision, request):
                ports.observer.published(
                    plan.published,
                    created=plan.created,
                    environments=[pointer.environment for pointer in plan.change.pointers],
                    publisher=publication.publisher,
                )
                await self.refresh()
                return Published(plan.published, plan.created)
        raise _collided()

    def _answer_again(self, past: PastRequest, payload: str) -> Published:
        if past.payload_digest != payload:
            raise RequestIdReused("this request_id was used for another publication; send a new one")
        prompt = self._catalog.find(past.prompt_name, past.version)
        assert prompt is not None, "a request is kept only with the version that it published"
        return Published(prompt, past.created)


def _payload_digest(publication: Publication) -> str:
    asked = [to_json(publication.prompt), publication.version, sorted(publication.environments)]
    return hashlib.sha256(canonical(asked).encode()).hexdigest()


def _collided() -> StorageUnavailable:
    return StorageUnavailable("other publishers kept changing the registry; send the same request again")
