"""Registry: parts by the name that recipes call them by.

A recipe says `kind: mala`, and the registry says which part that is. A part comes with settings: a pydantic model with
a field `kind: Literal["mala"] = "mala"`. Registering it is all that a recipe needs: a field annotated with the registry
takes what any registered kind takes, however late it was registered, and the JSON schema lists all kinds.

>>> from typing import Annotated, Literal
>>> from pydantic import BaseModel
>>> class Shape(BaseModel):
...     kind: str
>>> SHAPES: Registry[type[Shape]] = Registry("shape")
>>> @SHAPES.register
... class Circle(Shape):
...     kind: Literal["circle"] = "circle"
...     radius: float = 1.0
>>> class Drawing(BaseModel):
...     shape: Annotated[Shape, SHAPES]
>>> @SHAPES.register
... class Square(Shape):
...     kind: Literal["square"] = "square"
...     side: float = 1.0
>>> Drawing.model_validate({"shape": {"kind": "square", "side": 3}})
Drawing(shape=Square(kind='square', side=3.0))
>>> list(SHAPES), SHAPES["circle"] is Circle
(['circle', 'square'], True)
>>> SHAPES["sqare"]
Traceback (most recent call last):
KeyError: "there is no shape 'sqare': did you mean 'square'?"
"""

from collections.abc import Callable
from typing import Annotated, Any, NoReturn, TypeVar, Union, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from vaebm.wording import did_you_mean

PartT = TypeVar("PartT", bound=type)


class Settings(BaseModel):
    """What a recipe says of a part: no other keys, finite numbers, and nothing that changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Registry(dict[str, PartT]):
    """Parts by kind, in the order in which they were registered.

    Args:
        noun: what messages call a part.
        settings: gives the settings of a part; the parts are their own settings unless given.
        default: the kind that is meant where a recipe names none.
    """

    __hash__ = object.__hash__  # type: ignore[assignment]  # a registry is equal to itself alone

    def __init__(
        self,
        noun: str,
        settings: Callable[[PartT], type[BaseModel]] = lambda part: cast(type[BaseModel], part),
        default: str | None = None,
    ) -> None:
        self.noun, self.settings, self.default = noun, settings, default
        self._known: tuple[PartT, ...] = ()
        self._adapter: TypeAdapter[Any] | None = None

    def register(self, part: PartT) -> PartT:
        """Makes a part known by the `kind` of its settings, and gives it back, so that it may decorate a class.

        Raises:
            ValueError: another part has this kind.
        """
        kind = self.settings(part).model_fields["kind"].default
        if self.get(kind, part) is not part:
            raise ValueError(f"there is a {self.noun} {kind!r} already, {self[kind].__name__}: choose another kind")
        self[kind] = part
        return part

    def __missing__(self, kind: str) -> NoReturn:
        raise KeyError(f"there is no {self.noun} {kind!r}: {did_you_mean(kind, self)}")

    @property
    def adapter(self) -> TypeAdapter[Any]:
        """Reads the settings of any registered kind."""
        known = tuple(self.values())
        if not known:
            raise ValueError(f"no {self.noun} is registered: leave it out")
        if self._adapter is None or known != self._known:
            kinds = tuple(self.settings(part) for part in known)
            union: Any = Annotated[Union[kinds], Field(discriminator="kind")] if len(kinds) > 1 else kinds[0]  # noqa: UP007
            self._known, self._adapter = known, TypeAdapter(union)
        return self._adapter

    def _validated(self, value: object) -> Any:
        if self.default is not None and isinstance(value, dict) and "kind" not in value:
            return self.settings(self[self.default]).model_validate(value)
        return self.adapter.validate_python(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validated)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(self.adapter.core_schema) if self else {}
