//! The language itself: operators, macros, optional values, names.

use super::check;

#[test]
fn operators() {
    check(&[
        ("1 + 2 * 3 - 4 / 2 % 3", "5"),
        ("-(1 - 3)", "2"),
        ("--1", "1"),
        ("7u / 2u", "3u"),
        ("7.0 / 2.0", "3.5"),
        ("'a' + 'b'", r#""ab""#),
        ("b'a' + b'\\x62'", r#""YWI=""#),
        ("[1] + [2]", "[1,2]"),
        ("1 < 2u && 2u <= 2.0 && 3 > 2.5 && 'b' >= 'a'", "true"),
        ("1 == 1 && 'a' != 'b' && [1, 2] == [1, 2] && {'a': 1} == {'a': 1}", "true"),
        ("dyn(1) == 1.0 && dyn(1) == 1u", "true"),
        ("dyn(1) == 'a'", "false"),
        ("2 in [1, 2] && !('c' in {'a': 1})", "true"),
        ("true ? 'x' : 'y'", r#""x""#),
        ("false || !false && true", "true"),
        ("1 / 0 == 1 || true", "true"),
        ("1 / 0 == 1 && false", "false"),
        ("1 / 0", "error: division by zero"),
        ("1 % 0", "error: modulus by zero"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("-9223372036854775808 - 1", "error: integer overflow"),
        ("1u - 2u", "error: unsigned integer overflow"),
        ("0x10 + 1", "17"),
        ("1e3", "1000.0"),
        (".5", "0.5"),
        ("[1, 2, 3][1]", "2"),
        ("[1][5]", "error: index out of bounds: 5"),
        ("{'a': 1}['b']", "error: no such key: b"),
        ("{'a': 1}.a", "1"),
        ("{1: 'x'}[1]", r#""x""#),
        ("{'a': 1, 'a': 2}", "error: Failed with repeated key: a"),
        ("r'a\\n' == 'a\\\\n' && '''x\ny''' == 'x\\ny' && '\\u00e4' == 'ä' && \"\\101\" == 'A'", "true"),
        ("1 // with a remark\n + 1", "2"),
        ("timestamp('2025-01-02T00:00:00Z') - timestamp('2025-01-01T00:00:00Z') == duration('24h')", "true"),
        ("timestamp('2025-01-01T00:00:00Z') + duration('1h') > timestamp('2025-01-01T00:30:00Z')", "true"),
        ("timestamp('2025-01-01T00:00:00Z') - duration('1s')", r#""2024-12-31T23:59:59Z""#),
        ("duration('1h') + duration('30m') - duration('10m')", r#""4800s""#),
    ]);
}

#[test]
fn macros() {
    check(&[
        ("[1, 2].all(x, x > 0) && [1, 2].exists(x, x == 2) && [1, 2].exists_one(x, x > 1)", "true"),
        ("[].all(x, false) && ![].exists(x, true)", "true"),
        ("[0, 1].all(x, 1 / x > 5)", "false"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("[0, 1].exists_one(x, 1 / x == 1)", "error: division by zero"),
        ("[1, 2, 3].map(x, x * 2)", "[2,4,6]"),
        ("[1, 2, 3].map(x, x > 1, x * 2)", "[4,6]"),
        ("[1, 2, 3].filter(x, x != 2)", "[1,3]"),
        ("{'a': 1, 'b': 2}.map(k, k)", r#"["a","b"]"#),
        ("{'a': 1, 'b': 2}.all(k, k in ['a', 'b'])", "true"),
        ("[3, 4].all(i, v, v == i + 3) && {'a': 1}.exists(k, v, k == 'a' && v == 1)", "true"),
        ("[1, 1].existsOne(i, v, i == 1)", "true"),
        ("[3, 4].transformList(i, v, i + v)", "[3,5]"),
        ("[3, 4].transformList(i, v, v > 3, i)", "[1]"),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10)", r#"{"b":20}"#),
        ("{'a': 'x'}.transformMapEntry(k, v, {v: k})", r#"{"x":"a"}"#),
        (
            "{'a': 'x', 'b': 'x'}.transformMapEntry(k, v, {v: k})",
            "error: insert failed: key x already exists",
        ),
        ("[[1, 2], [3]].all(x, x.all(y, y > 0) && x.exists(x, x > 0))", "true"),
        ("cel.bind(x, 2, x * x)", "4"),
        ("has(self.name) && !has(self.missing) && has(self.nothing)", "true"),
    ]);
}

#[test]
fn optional_values() {
    check(&[
        ("self.?missing.orValue('x')", r#""x""#),
        ("self.?name.orValue('x')", r#""abc""#),
        ("self.?missing", "none"),
        ("self.?missing.hasValue()", "false"),
        ("object.?spec.?replicas.orValue(1)", "1"),
        ("object.?spec.replicas.hasValue()", "false"),
        ("self.labels[?'z'].orValue('none')", r#""none""#),
        ("self.list[?0].value()", "3"),
        ("self.list[?9].or(optional.of(7)).value()", "7"),
        ("optional.none().value()", "error: optional.none() dereference"),
        ("optional.ofNonZeroValue('').hasValue()", "false"),
        ("self.?name.optMap(n, n + '!').orValue('')", r#""abc!""#),
        ("self.?missing.optFlatMap(n, optional.of(n)).hasValue()", "false"),
        ("[?optional.none(), ?optional.of(1), 2]", "[1,2]"),
        ("{?'a': optional.none(), 'b': 1}", r#"{"b":1}"#),
        ("!has(object.?missing.x) && has(object.?labels.a)", "true"),
    ]);
}

#[test]
fn values_of_a_schema() {
    check(&[
        ("self.count + 1", "4"),
        ("self.ratio / 4.0", "0.5"),
        ("self.labels['b-c'] + self.labels.a", r#""21""#),
        ("self.people.map(p, p.age).sum()", "8"),
        (
            "self.when.getFullYear() == 2025 && self.day.getMonth() == 2 && self.wait == duration('1m30s')",
            "true",
        ),
        ("type(self.either) == string && self.either == '50%'", "true"),
        ("self.__namespace__ + string(self.a__dash__b.c__dot__d)", r#""ns1""#),
        ("self.set == ['y', 'x']", "true"),
        ("self.set + ['y', 'z']", r#"["x","y","z"]"#),
        ("size(self.people.map(p, {'name': p.name}) + [{'name': 'ann'}])", "3"),
        ("self.list == [3, 2, 1]", "false"),
        ("self.data == b'hi'", "true"),
        ("object.namespace + object.metadata.name", "error: no such key: metadata"),
        ("object['a-b']['c.d'] == 1 && object.a__dash__b.c__dot__d == 1", "true"),
        ("object.count + 'x'", "error: no such overload"),
        ("object.people.all(p, p.age > 2)", "true"),
    ]);
}

#[test]
fn types() {
    check(&[
        ("type(1) == int && type(1u) == uint && type('') == string && type(1.0) == double", "true"),
        ("type([]) == list && type({}) == map && type(null) == null_type && type(type(1)) == type", "true"),
        (
            "type(self.when) == google.protobuf.Timestamp && type(self.wait) == google.protobuf.Duration",
            "true",
        ),
        ("type(ip('::1')) == net.IP", "true"),
        ("type(b'') == bytes && type(true) == bool", "true"),
    ]);
}
