"""The wire contract keeps its own rules: lint, documentation, uniform fields, generated code equal to its protos."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, MethodOptions

PROJECT = Path(__file__).parents[2]
PROTOS = PROJECT / "proto" / "debt_mgmt" / "v1"
GENERATED = PROJECT / "client" / "debt_mgmt" / "v1"

METHODS = {
    "AccessService": "GetCaller IssueToken ListTokens RevokeToken RotateToken",
    "AccountService": "CreateAccount GetAccount ListAccounts CloseAccount SyncAccount SetDryRun ListBrokers",
    "MarginService": "GetPortfolio GetMarginStatus ListPositions CheckOrder BatchCheckOrders StreamCheckOrders "
    "ReserveMargin ReleaseReservation ListReservations RecordFill PlaceOrder CancelOrder ListOrders ClosePosition "
    "SimulateMargin WatchMargin "
    "ListLiquidations",
    "LeverageService": "GetLeverage ListLeverage SetLeverage SetMarginMode AdjustIsolatedMargin ListLeverageLimits",
    "DebtService": "Borrow Repay GetDebtSummary ListDebts ListInterestCharges ListBorrowRates",
    "FundService": "GetFunds Deposit Withdraw ResetFunds ListFundHistory",
    "RiskService": "GetRiskLimits SetRiskLimits ListLimitSets PutLimitSet DeleteLimitSet HaltTrading ResumeTrading "
    "ListHalts ListPendingChanges ApproveChange RejectChange ListAlerts AcknowledgeAlert",
    "MarketService": "PutInstrument ListInstruments PublishMarks ListMarks PublishFundingRate ListFundingRates",
    "AuditService": "ListAuditEvents ExplainEvent VerifyAudit",
}
# Marks are not journaled, so there is nothing that a request_id could repeat.
MUTATION_WITHOUT_REQUEST_ID = {"PublishMarks"}
# An account that exists is an error, and a definition is right or malformed: these have nothing to refuse.
MUTATION_WITHOUT_REFUSAL = {"PublishMarks", "CreateAccount", "PutInstrument"}

TIMESTAMP = ".google.protobuf.Timestamp"
PACKAGE = ".debt_mgmt.v1."

# Words that some client language cannot use as a name.
KEYWORDS = (
    "and as assert async await begin bool break byte case catch char class const continue def default del delete do "
    "double elif else elsif end ensure enum except extends false final finally float for foreach from func function "
    "global go goto if implements import in inline int interface internal is lambda let long match module namespace "
    "native new nil none nonlocal not null object operator or out override package params pass private protected "
    "public raise range readonly ref register rescue return select self short signed sizeof static string struct "
    "super switch synchronized template this throw true try type typedef union unless unsigned until using var "
    "virtual void volatile when where while with yield descriptor hash method reset"
)

type_names = FieldDescriptorProto.Type.Name


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[descriptor_pb2.FileDescriptorProto]:
    """The protos as protoc understands them, with their comments."""
    image = tmp_path_factory.mktemp("contract") / "contract.binpb"
    result = run(
        sys.executable,
        *("-m", "grpc_tools.protoc", "--proto_path=proto", "--include_source_info", f"--descriptor_set_out={image}"),
        *(path.relative_to(PROJECT) for path in sorted(PROTOS.glob("*.proto"))),
    )
    assert result.returncode == 0, result.stderr
    return list(descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes()).file)


@pytest.fixture(scope="session")
def messages(files: list[descriptor_pb2.FileDescriptorProto]) -> dict[str, descriptor_pb2.DescriptorProto]:
    return {PACKAGE + message.name: message for file in files for message in file.message_type}


@pytest.fixture(scope="session")
def methods(files: list[descriptor_pb2.FileDescriptorProto]) -> list[descriptor_pb2.MethodDescriptorProto]:
    return [method for file in files for service in file.service for method in service.method]


def mutates(method: descriptor_pb2.MethodDescriptorProto) -> bool:
    return method.options.idempotency_level != MethodOptions.NO_SIDE_EFFECTS


def shape(message: descriptor_pb2.DescriptorProto) -> dict[str, tuple[int, str]]:
    """Name of each field to its number and type."""
    return {field.name: (field.number, field.type_name or type_names(field.type)) for field in message.field}


def buf() -> Path:
    beside = Path(sys.executable).with_name("buf")
    found = beside if beside.exists() else shutil.which("buf")
    assert found, "buf is missing: install the development extra (buf-bin)"
    return Path(found)


def test_buf_lint_finds_nothing() -> None:
    result = run(buf(), "lint")
    assert result.returncode == 0, result.stdout + result.stderr


def test_protos_are_formatted() -> None:
    result = run(buf(), "format", "--diff", "--exit-code")
    assert result.returncode == 0, result.stdout + result.stderr


def test_lint_covers_style_and_comments() -> None:
    used = set(re.findall(r"^ +- (STANDARD|COMMENTS|FILE)$", (PROJECT / "buf.yaml").read_text(), re.MULTILINE))
    assert used == {"STANDARD", "COMMENTS", "FILE"}
    ignored = [path.name for path in PROTOS.glob("*.proto") if "buf:lint:ignore" in path.read_text()]
    assert not ignored


def test_services_have_exactly_the_designed_methods(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    found = {service.name: [method.name for method in service.method] for file in files for service in file.service}
    assert found == {service: names.split() for service, names in METHODS.items()}


def test_each_service_has_its_own_file(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    for file in files:
        services = [re.sub(r"(?<!^)(?=[A-Z])", "_", service.name).lower() for service in file.service]
        stem = Path(file.name).stem
        assert services == ([stem] if stem.endswith("_service") else [])


def test_every_declaration_is_documented(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    bare = []
    for file in files:
        documented = {tuple(at.path) for at in file.source_code_info.location if at.leading_comments.strip()}
        bare += [f"{file.name} {name}" for path, name in declarations(file) if path not in documented]
    assert not bare


def declarations(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Source path and name of all that must be documented; the numbers of a path are those of descriptor.proto."""
    for i, message in enumerate(file.message_type):
        yield (4, i), message.name
        assert not message.nested_type, "messages stand at the top of a file"
        assert not message.enum_type, "enums stand at the top of a file"
        for j, field in enumerate(message.field):
            yield (4, i, 2, j), f"{message.name}.{field.name}"
        synthetic = {field.oneof_index for field in message.field if field.proto3_optional}
        for j, oneof in enumerate(message.oneof_decl):
            if j not in synthetic:
                yield (4, i, 8, j), f"{message.name}.{oneof.name}"
    for i, enum in enumerate(file.enum_type):
        yield (5, i), enum.name
        for j, value in enumerate(enum.value):
            yield (5, i, 2, j), value.name
    for i, service in enumerate(file.service):
        yield (6, i), service.name
        for j, method in enumerate(service.method):
            yield (6, i, 2, j), f"{service.name}.{method.name}"


def test_every_answer_says_as_of_when_it_holds(
    methods: list[descriptor_pb2.MethodDescriptorProto], messages: dict[str, descriptor_pb2.DescriptorProto]
) -> None:
    for method in methods:
        fields = shape(messages[method.output_type])
        assert fields.get("revision") == (1, PACKAGE + "Revision"), method.name
        assert fields.get("as_of") == (2, TIMESTAMP), method.name


def test_every_mutation_is_repeatable(
    methods: list[descriptor_pb2.MethodDescriptorProto], messages: dict[str, descriptor_pb2.DescriptorProto]
) -> None:
    mutations = [method for method in methods if mutates(method) and method.name not in MUTATION_WITHOUT_REQUEST_ID]
    assert mutations
    for method in mutations:
        assert method.options.idempotency_level == MethodOptions.IDEMPOTENT, method.name
        assert shape(messages[method.input_type]).get("request_id") == (1, "TYPE_STRING"), method.name
        assert shape(messages[method.output_type]).get("replayed") == (3, "TYPE_BOOL"), method.name


def test_reading_methods_are_marked_as_such(methods: list[descriptor_pb2.MethodDescriptorProto]) -> None:
    readers = re.compile(r"(Get|List|Check|BatchCheck|StreamCheck|Simulate|Watch|Explain|Verify)[A-Z]")
    assert all(mutates(method) != bool(readers.match(method.name)) for method in methods)


def test_every_refusable_mutation_answers_with_its_violations(
    methods: list[descriptor_pb2.MethodDescriptorProto], messages: dict[str, descriptor_pb2.DescriptorProto]
) -> None:
    for method in methods:
        if mutates(method) and method.name not in MUTATION_WITHOUT_REFUSAL:
            fields = shape(messages[method.output_type])
            assert fields.get("accepted") == (4, "TYPE_BOOL"), method.name
            assert fields.get("violations") == (5, PACKAGE + "Violation"), method.name


def test_lists_page(
    methods: list[descriptor_pb2.MethodDescriptorProto], messages: dict[str, descriptor_pb2.DescriptorProto]
) -> None:
    for method in methods:
        if method.name.startswith("List"):
            request, response = shape(messages[method.input_type]), shape(messages[method.output_type])
            assert request["page_size"][1] == "TYPE_INT32", method.name
            assert request["page_token"][1] == "TYPE_STRING", method.name
            assert response["next_page_token"] == (4, "TYPE_STRING"), method.name


def test_fields_use_only_types_that_every_language_reads_exactly(
    messages: dict[str, descriptor_pb2.DescriptorProto],
) -> None:
    allowed = {"TYPE_STRING", "TYPE_BOOL", "TYPE_INT32", "TYPE_INT64", "TYPE_MESSAGE", "TYPE_ENUM"}
    foreign = {TIMESTAMP, ".google.protobuf.Duration", ".google.protobuf.FieldMask"}
    for name, message in messages.items():
        assert not message.nested_type, f"{name} has a map"
        for field in message.field:
            where = f"{name}.{field.name}"
            assert type_names(field.type) in allowed, where
            if field.type == FieldDescriptorProto.TYPE_MESSAGE:
                assert field.type_name.startswith(PACKAGE) or field.type_name in foreign, where
                assert not field.proto3_optional, f"{where}: a message has presence without optional"


def test_no_name_is_a_keyword_or_a_word_of_two_meanings(messages: dict[str, descriptor_pb2.DescriptorProto]) -> None:
    names = {field.name for message in messages.values() for field in message.field}
    assert not names & set(KEYWORDS.split())
    assert not [name for name in names if re.search(r"margin_level|\bfree|\bsize\b|process|handle|\bdata\b", name)]


def test_refusals_stand_in_order_of_precedence() -> None:
    values = re.findall(r"^  REFUSAL_REASON_(\w+) = (\d+);$", (PROTOS / "rejections.proto").read_text(), re.MULTILINE)
    numbers = [int(number) for _, number in values]
    assert numbers[:39] == list(range(39))
    assert numbers == sorted(set(numbers))
    names = [name for name, _ in values]
    # The order of the pre-trade check, one name from each of its groups.
    groups = (
        "ACCOUNT_CLOSED UNKNOWN_INSTRUMENT TRADING_HALTED STALE_MARK LEVERAGE_ABOVE_ACCOUNT QUANTITY_BELOW_MINIMUM "
        "EXPOSURE_LIMIT CONCURRENT_POSITIONS DAILY_LOSS BREAKER_TRIPPED INSUFFICIENT_MARGIN UTILIZATION_AFTER"
    )
    order = [names.index(name) for name in groups.split()]
    assert order == sorted(order)


def test_every_error_reason_names_its_status_code() -> None:
    text = (PROTOS / "rejections.proto").read_text()
    reasons = re.findall(r"^  // (.*)\n(?:  // .*\n)*  ERROR_REASON_(\w+) = [1-9]\d*;$", text, re.MULTILINE)
    assert len(reasons) == len(re.findall(r"^  ERROR_REASON_\w+ = [1-9]", text, re.MULTILINE)) > 0
    codes = {
        "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "OUT_OF_RANGE", "UNIMPLEMENTED", "UNAVAILABLE", "INTERNAL",
        "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "PERMISSION_DENIED", "DEADLINE_EXCEEDED", "CANCELLED",
        "FAILED_PRECONDITION",
    }  # fmt: skip
    assert {comment.partition(":")[0] for comment, _ in reasons} <= codes


def test_generated_code_matches_the_protos(tmp_path: Path) -> None:
    result = run(PROJECT / "scripts" / "generate.sh", tmp_path, PYTHON=sys.executable)
    assert result.returncode == 0, result.stdout + result.stderr
    fresh = tmp_path / "debt_mgmt" / "v1"
    names = sorted(path.name for path in fresh.iterdir())
    committed = sorted(path.name for path in GENERATED.glob("*_pb2*.py*"))
    assert names == committed
    _, different, unreadable = filecmp.cmpfiles(fresh, GENERATED, names, shallow=False)
    assert not different + unreadable, "run make generate"


def test_generated_code_loads_on_the_declared_dependencies() -> None:
    """Generated code refuses runtimes older than its generator, so the declared floors may not lie below it."""
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = {match[1]: match[2] for match in (re.match(r"([\w-]+)>=([\d.]+)", line) for line in declared) if match}
    messages_need = stated(r"^# Protobuf Python Version: ([\d.]+)$", "*_pb2.py")
    stubs_need = stated(r"^GRPC_GENERATED_VERSION = '([\d.]+)'$", "*_pb2_grpc.py")
    assert version("6") <= messages_need <= version("6.33")
    assert messages_need <= version(floors["protobuf"])
    assert stubs_need <= version(floors["grpcio"])


def stated(pattern: str, files: str) -> tuple[int, ...]:
    """The one version that all these generated files state."""
    found = {re.search(pattern, path.read_text(), re.MULTILINE) for path in GENERATED.glob(files)}
    assert None not in found
    versions = {match.group(1) for match in found if match}
    assert len(versions) == 1
    return version(versions.pop())


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_package_is_typed_and_its_namespace_stays_open() -> None:
    assert (GENERATED / "py.typed").exists()
    assert not (GENERATED.parent / "__init__.py").exists()
