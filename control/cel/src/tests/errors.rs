//! What the checker refuses, in upstream's words.

use super::check;

#[test]
fn mistakes_are_found_before_it_runs() {
    check(&[
        ("self.foo", "compilation failed: ERROR: <input>:1:5: undefined field 'foo'\n | self.foo\n | ....^"),
        (
            "foo",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo\n | ^",
        ),
        (
            "foo(1)",
            "compilation failed: ERROR: <input>:1:4: undeclared reference to 'foo' (in container '')\n | foo(1)\n | ...^",
        ),
        (
            "self.count == 'a'",
            "compilation failed: ERROR: <input>:1:12: found no matching overload for '_==_' applied to '(int, string)'\n | \
             self.count == 'a'\n | ...........^",
        ),
        (
            "self.name.startsWith(1)",
            "compilation failed: ERROR: <input>:1:21: found no matching overload for 'startsWith' applied to \
             'string.(int)'\n | self.name.startsWith(1)\n | ....................^",
        ),
        (
            "self.count.all(x, true)",
            "compilation failed: ERROR: <input>:1:15: expression of type 'int' cannot be range of a comprehension (must be \
             list, map, or dynamic)\n | self.count.all(x, true)\n | ..............^",
        ),
        (
            "self.name.x",
            "compilation failed: ERROR: <input>:1:10: type 'string' does not support field selection\n | self.name.x\n | .........^",
        ),
        (
            "1 && true",
            "compilation failed: ERROR: <input>:1:3: found no matching overload for '_&&_' applied to '(int, bool)'\n | \
             1 && true\n | ..^",
        ),
        (
            "true ? 1 : 'a'",
            "compilation failed: ERROR: <input>:1:6: found no matching overload for '_?_:_' applied to '(bool, int, \
             string)'\n | true ? 1 : 'a'\n | .....^",
        ),
        (
            "self.list['a']",
            "compilation failed: ERROR: <input>:1:10: found no matching overload for '_[_]' applied to '(list(int), \
             string)'\n | self.list['a']\n | .........^",
        ),
        (
            "self.name.matches('(')",
            "compilation failed: ERROR: <input>:1:19: invalid matches argument\n | self.name.matches('(')\n | ..................^",
        ),
        (
            "duration('1d')",
            "compilation failed: ERROR: <input>:1:10: invalid duration argument\n | duration('1d')\n | .........^",
        ),
        (
            "Object{a: 1}",
            "compilation failed: ERROR: <input>:1:7: undeclared reference to 'Object' (in container '')\n | Object{a: 1}\n | \
             ......^",
        ),
        (
            "[1].all(x.y, true)",
            "compilation failed: ERROR: <input>:1:10: argument must be a simple name\n | [1].all(x.y, true)\n | .........^",
        ),
        (
            "has(self)",
            "compilation failed: ERROR: <input>:1:4: invalid argument to has() macro\n | has(self)\n | ...^",
        ),
        (
            "namespace",
            "compilation failed: ERROR: <input>:1:1: reserved identifier: namespace\n | namespace\n | ^",
        ),
        (
            "a\n + self.bar\n + b",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'a' (in container '')\n | a\n | ^\n\
             ERROR: <input>:2:8: undefined field 'bar'\n |  + self.bar\n | .......^\n\
             ERROR: <input>:3:4: undeclared reference to 'b' (in container '')\n |  + b\n | ...^",
        ),
    ]);
}

#[test]
fn syntax() {
    for (expression, message) in [
        ("self.", "1:6: Syntax error: mismatched input '<EOF>' expecting IDENTIFIER"),
        ("1 +", "1:4: Syntax error: mismatched input '<EOF>' expecting {"),
        ("(1", "1:3: Syntax error: mismatched input '<EOF>' expecting ')'"),
        ("1 2", "1:3: Syntax error: extraneous input '2' expecting <EOF>"),
        ("'abc", "1:1: Syntax error: token recognition error"),
        ("1 @ 2", "1:3: Syntax error: token recognition error at: '@'"),
        ("...", "1:2: Syntax error"),
        ("99999999999999999999", "1:1: invalid int literal"),
        ("'\\q'", "1:2: Syntax error: unable to unescape string"),
        ("1 in in 2", "1:6: Syntax error: mismatched input 'in'"),
        ("", "1:1: Syntax error: mismatched input '<EOF>'"),
    ] {
        let found = super::evaluate(expression);
        assert!(found.contains(message), "{expression}: {found}");
    }
}
