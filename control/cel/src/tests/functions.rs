//! Every function, once at least.

use super::check;

#[test]
fn conversions() {
    check(&[
        ("int('12') + int(3.9) + int(4u) + int(timestamp('1970-01-01T00:00:10Z'))", "29"),
        ("int('x')", "error: type conversion error from 'x' to 'int'"),
        ("int(1e30)", "error: integer overflow"),
        ("uint(3) + uint('4') + uint(2.5)", "9u"),
        ("uint(-1)", "error: unsigned integer overflow"),
        ("double('1.5') + double(1) + double(1u)", "3.5"),
        (
            "string(1) + string(true) + string(1.5) + string(2u) + string(b'x') + string('y')",
            r#""1true1.52xy""#,
        ),
        (
            "string(duration('1h')) + string(timestamp('2025-01-01T00:00:00Z'))",
            r#""3600s2025-01-01T00:00:00Z""#,
        ),
        ("string(b'\\xff')", "error: invalid UTF-8 in bytes, cannot convert to string"),
        ("bytes('hi') == b'hi' && bool('true') && !bool('0')", "true"),
        ("bool('x')", "error: type conversion error from 'x' to 'bool'"),
        (
            "timestamp(10) == timestamp('1970-01-01T00:00:10Z') && timestamp('1970-01-01T01:00:10+01:00') == timestamp(10)",
            "true",
        ),
        ("dyn('a') + 'b'", r#""ab""#),
        ("size('äb') + size([1]) + size({'a': 1}) + size(b'abc') + 'x'.size()", "8"),
    ]);
}

#[test]
fn times() {
    check(&[
        ("self.when.getFullYear()", "2025"),
        ("self.when.getMonth()", "2"),
        ("self.when.getDate()", "4"),
        ("self.when.getDayOfMonth()", "3"),
        ("self.when.getDayOfYear()", "62"),
        ("self.when.getDayOfWeek()", "2"),
        ("self.when.getHours()", "5"),
        ("self.when.getMinutes()", "6"),
        ("self.when.getSeconds()", "7"),
        ("self.when.getMilliseconds()", "89"),
        ("self.when.getHours('+01:30')", "6"),
        ("self.when.getHours('-06:00')", "23"),
        ("self.when.getHours('Europe/Berlin')", "6"),
        ("self.when.getHours('Nowhere/Land')", "error: unknown time zone"),
        ("duration('90m').getHours()", "1"),
        ("duration('90m').getMinutes()", "90"),
        ("duration('2s').getSeconds()", "2"),
        ("duration('2s').getMilliseconds()", "2000"),
    ]);
}

#[test]
fn strings() {
    check(&[
        ("'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')", "true"),
        ("'hello'.matches('^h.*o$') && matches('hello', 'l+') && !'hello'.matches('^l')", "true"),
        ("'äbc'.charAt(0) + 'abc'.charAt(3)", r#""ä""#),
        ("'abc'.charAt(4)", "error: index out of range: 4"),
        ("'häha'.indexOf('ha')", "2"),
        ("'haha'.indexOf('ha', 1)", "2"),
        ("'abc'.indexOf('z')", "-1"),
        ("'abc'.indexOf('a', -1)", "error: index out of range: -1"),
        ("'haha'.lastIndexOf('ha')", "2"),
        ("'haha'.lastIndexOf('ha', 1)", "0"),
        ("['a', 'b'].join() + ['a', 'b'].join('-')", r#""aba-b""#),
        ("'aBc'.lowerAscii() + 'aBc'.upperAscii() + ' x '.trim()", r#""abcABCx""#),
        ("'hello'.replace('l', 'L') + 'hello'.replace('l', 'L', 1)", r#""heLLoheLlo""#),
        ("'a,b,c'.split(',')", r#"["a","b","c"]"#),
        ("'a,b,c'.split(',', 2)", r#"["a","b,c"]"#),
        ("'abc'.split('')", r#"["a","b","c"]"#),
        ("'abc'.split(',', 0)", "[]"),
        ("'tacocat'.substring(4) + 'tacocat'.substring(0, 4)", r#""cattaco""#),
        ("'abc'.substring(2, 1)", "error: invalid substring range. start: 2, end: 1"),
        ("strings.quote('a\"b')", r#""\"a\\\"b\"""#),
        ("jsonpatch.escapeKey('a/b~c')", r#""a~1b~0c""#),
    ]);
}

#[test]
fn format() {
    check(&[
        ("'%s is %d'.format([dyn('x'), 3])", r#""x is 3""#),
        ("'%.2f %e %%'.format([1.239, 1052.033])", r#""1.24 1.052033e+03 %""#),
        ("'%x %X %o %b'.format([255, 255, 8, 5])", r#""ff FF 10 101""#),
        ("'%s %s'.format([dyn([dyn(1), 'a']), {'k': true}])", r#""[1, a] {k: true}""#),
        ("'%s %x'.format([dyn(duration('1s')), 'hi'])", r#""1s 6869""#),
        (
            "'%d'.format(['x'])",
            "error: error during formatting: decimal clause can only be used on integers, was given string",
        ),
        ("'%s'.format([])", "error: index 0 out of range"),
        ("'x'.format([1])", "error: too many arguments supplied to string.format (expected 0, got 1)"),
        ("'%z'.format([1])", "error: error during formatting: unrecognized formatting clause 'z'"),
    ]);
}

#[test]
fn lists_and_sets() {
    check(&[
        ("[1, 2, 2].isSorted() && !['b', 'a'].isSorted()", "true"),
        ("[1, 2].sum() + [].sum()", "3"),
        ("[1.5, 2.0].sum()", "3.5"),
        ("[duration('1s'), duration('2s')].sum() == duration('3s')", "true"),
        ("[3, 1, 2].min() * 10 + [3, 1, 2].max()", "13"),
        ("self.list.filter(x, x > 5).min()", "error: min called on empty list"),
        ("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1) * 10 + [1].indexOf(5) * 100", "-80"),
        ("object.list.sum()", "6"),
        ("sets.contains([1, 2, 3], [2, 1]) && !sets.contains([1], [2])", "true"),
        ("sets.equivalent([1, 2], [2, 1, 1]) && !sets.equivalent([1], [1, 2])", "true"),
        ("sets.intersects([1, 2], [2, 3]) && !sets.intersects([1], [2])", "true"),
    ]);
}

#[test]
fn optional_values_in_lists() {
    check(&[
        ("[3, 4].first().value() * 10 + [3, 4].last().value()", "34"),
        ("[].first().hasValue() || [].last().hasValue()", "false"),
        ("object.list.last().orValue(9)", "2"),
        ("[optional.of(1), optional.none(), optional.of(3)].unwrapOpt()", "[1,3]"),
        ("optional.unwrap([optional.of('a')])", r#"["a"]"#),
    ]);
}

#[test]
fn regular_expressions() {
    check(&[
        ("'abc 123'.find('[0-9]+')", r#""123""#),
        ("'abc'.find('[0-9]+')", r#""""#),
        ("'1 22 333'.findAll('[0-9]+')", r#"["1","22","333"]"#),
        ("'1 22 333'.findAll('[0-9]+', 2)", r#"["1","22"]"#),
    ]);
    assert!(super::evaluate("'a'.matches(self.name + '(')").starts_with("error: error parsing regexp"));
}

#[test]
fn urls() {
    check(&[
        ("url('https://u@Example.com:80/a%20b?k=1&k=2#').getScheme()", r#""https""#),
        ("url('https://example.com:80/path').getHost()", r#""example.com:80""#),
        ("url('https://[::1]:80/').getHostname() + url('https://[::1]:80/').getPort()", r#""::180""#),
        ("url('https://example.com/with space/').getEscapedPath()", r#""/with%20space/""#),
        ("url('https://example.com').getEscapedPath() + url('/path').getHost()", r#""""#),
        ("url('https://example.com/?k=a+b&k=%26&z')", "kubernetes.URL"),
        ("url('https://example.com/?k=a+b&k=%26&z').getQuery()", r#"{"k":["a b","&"],"z":[""]}"#),
        ("url('https://a/b?c=d#e').getEscapedPath() + url('/a?c=d#e').getQuery()['c'][0]", r#""/bd""#),
        ("url('mailto:me@a').getScheme() + url('mailto:me@a').getHost()", r#""mailto""#),
        (
            "isURL('https://a:80/') && isURL('/x') && !isURL('../x') && isURL('a:b') && isURL('*') && !isURL('a b') && !isURL('https://a:x/')",
            "true",
        ),
        ("url('x').getHost()", r#"error: URL parse error during conversion from string: "x""#),
    ]);
}

#[test]
fn addresses() {
    check(&[
        (
            "isIP('127.0.0.1') && isIP('::1') && !isIP('127.0.0.01') && !isIP('::ffff:1.2.3.4') && !isIP('fe80::1%en0')",
            "true",
        ),
        ("ip('127.0.0.1').family() + ip('::1').family()", "10"),
        (
            "ip('127.0.0.1').isLoopback() && ip('0.0.0.0').isUnspecified() && ip('169.254.1.1').isLinkLocalUnicast()",
            "true",
        ),
        ("ip('224.0.0.1').isLinkLocalMulticast() && ip('ff02::1').isLinkLocalMulticast()", "true"),
        ("ip('8.8.8.8').isGlobalUnicast() && !ip('127.0.0.1').isGlobalUnicast()", "true"),
        ("ip.isCanonical('::1') && !ip.isCanonical('0::1')", "true"),
        ("string(ip('0::1')) + string(cidr('10.0.0.0/8'))", r#""::110.0.0.0/8""#),
        ("ip('0::1') == ip('::1')", "true"),
        ("ip('x')", r#"error: IP Address "x" parse error during conversion from string"#),
        (
            "isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0/33') && !isCIDR('10.0.0.0') && !isCIDR('10.0.0.0/08')",
            "true",
        ),
        (
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsIP(ip('10.1.2.3'))",
            "true",
        ),
        (
            "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.0.0.0/8').containsCIDR(cidr('0.0.0.0/0'))",
            "true",
        ),
        (
            "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3')",
            "true",
        ),
        ("cidr('10.1.2.3/8').prefixLength()", "8"),
    ]);
}

#[test]
fn quantities_and_versions() {
    check(&[
        ("isQuantity('1.5Gi') && !isQuantity('1x')", "true"),
        ("quantity('50k').asInteger() + quantity('50k').sign()", "50001"),
        ("quantity('1.5').isInteger()", "false"),
        ("quantity('1.5').asInteger()", "error: cannot convert value to integer"),
        ("quantity('1.5').asApproximateFloat()", "1.5"),
        (
            "quantity('50k').add(quantity('20k')) == quantity('70k') && quantity('50').sub(20) == quantity('30')",
            "true",
        ),
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1').isLessThan(quantity('2'))", "true"),
        ("quantity('1').compareTo(quantity('2')) + quantity('1000m').compareTo(quantity('1'))", "-1"),
        ("isSemver('1.2.3') && !isSemver('1.2') && isSemver('v01.2', true)", "true"),
        ("semver('1.2.3').major() * 100 + semver('1.2.3').minor() * 10 + semver('1.2.3').patch()", "123"),
        (
            "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0').isGreaterThan(semver('1.0.0-rc.1'))",
            "true",
        ),
        (
            "semver('1.0.0').compareTo(semver('v1', true)) == 0 && semver('1.0.0+a') == semver('1.0.0+b')",
            "true",
        ),
    ]);
}

#[test]
fn named_formats() {
    check(&[
        ("!format.dns1123Label().validate('my-name').hasValue()", "true"),
        ("format.dns1123Label().validate('My').hasValue()", "true"),
        ("size(format.named('qualifiedName').value().validate('a b').value())", "1"),
        ("format.named('nothing').hasValue()", "false"),
        (
            "!format.dns1123LabelPrefix().validate('my-').hasValue() && format.dns1123Label().validate('my-').hasValue()",
            "true",
        ),
        (
            "['dns1123Subdomain', 'dns1035Label', 'dns1123SubdomainPrefix', 'dns1035LabelPrefix', 'labelValue'].all(n, !format.named(n).value().validate('abc').hasValue())",
            "true",
        ),
        ("!format.uri().validate('https://a/').hasValue() && format.uri().validate('a').hasValue()", "true"),
        ("!format.uuid().validate('00000000-0000-0000-0000-000000000000').hasValue()", "true"),
        ("!format.byte().validate('aGk=').hasValue() && format.byte().validate('aGk').hasValue()", "true"),
        (
            "!format.date().validate('2025-01-31').hasValue() && format.date().validate('2025-02-31').hasValue()",
            "true",
        ),
        ("!format.datetime().validate('2025-01-31T00:00:00Z').hasValue()", "true"),
        (
            "format.labelValue().validate('a b').hasValue() && format.dns1123Subdomain().validate('A').hasValue()",
            "true",
        ),
    ]);
}

#[test]
fn authorization() {
    check(&[
        ("authorizer.path('/healthz').check('get').allowed()", "true"),
        ("authorizer.group('apps').resource('deployments').check('get').allowed()", "true"),
        (
            "authorizer.group('').resource('pods').subresource('log').namespace('a').name('b').check('get').reason()",
            r#""a/b""#,
        ),
        ("authorizer.serviceAccount('ns', 'sa').group('').resource('x').check('any').allowed()", "true"),
        (
            "authorizer.group('').resource('x').fieldSelector('a=b').labelSelector('c=d').check('fail').errored()",
            "true",
        ),
        ("authorizer.group('').resource('x').check('fail').error()", r#""broken""#),
        ("authorizer.path('').check('get').allowed()", "error: path must not be empty"),
        (
            "authorizer.serviceAccount('A', 'sa').path('/').check('get').allowed()",
            "error: Invalid service account",
        ),
        (
            "[1, 2, 3].all(x, authorizer.path('/healthz').check('get').allowed())",
            "error: operation cancelled: actual cost limit exceeded",
        ),
    ]);
}
