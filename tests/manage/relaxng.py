# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents that a RELAX NG schema (XML syntax) allows, drawn at random: of each choice, what has come least often. Enough of the language for libvirt's schemas.

The same seed gives the same documents."""
import os
import random
import re
import warnings
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape, quoteattr, unescape

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sre_parse

RNG = "{http://relaxng.org/ns/structure/1.0}"
DEEP = 60


def kind(node):
    return node.tag.replace(RNG, "") if isinstance(node.tag, str) else ""


class Grammar:
    """Definitions of a file and of those that it includes."""

    def __init__(self, path):
        self.folder, self.defines, self.start = os.path.dirname(path), {}, None
        self.read(ET.parse(path).getroot())

    def read(self, root):
        for node in root:
            if kind(node) == "include":
                self.read(ET.parse(os.path.join(self.folder, node.get("href"))).getroot())
                self.read(node)
            elif kind(node) == "define":
                old = self.defines.get(node.get("name"), []) if node.get("combine") else []
                self.defines[node.get("name")] = old + [node]
            elif kind(node) == "start" and (self.start is None or len(node)):
                self.start = node


class Drawer:
    """Draws from a grammar. replace: texts in the place of definitions, "" for none."""

    def __init__(self, grammar, seed, replace=None):
        self.grammar, self.random, self.replace = grammar, random.Random(seed), replace or {}
        self.often, self.depth, self.share = {}, 0, 0.3

    def document(self, node):
        """The text of one element. A share of what may be left out is there."""
        self.share = self.random.choice([0.15, 0.35, 0.6])
        out = []
        self.node(node, {}, out)
        return "".join(out)

    # ---- texts ----

    def characters(self, allowed):
        negated, chars = False, []
        for op, value in allowed:
            if str(op) == "NEGATE":
                negated = True
            elif str(op) == "LITERAL":
                chars.append(chr(value))
            elif str(op) == "RANGE":
                chars += [chr(c) for c in range(value[0], min(value[1], value[0] + 300) + 1)]
            else:
                chars += "0123456789"
        if negated:
            chars = [c for c in "abcdefXYZ0123456789_-./" if c not in chars]
        plain = [c for c in chars if c.isalnum()]
        return self.random.choice(plain if plain and self.random.random() < 0.8 else chars)

    def pattern(self, items):
        out = []
        for op, value in items:
            op = str(op)
            if op == "LITERAL":
                out.append(chr(value))
            elif op in ("ANY", "NOT_LITERAL"):
                out.append(self.random.choice("abcXYZ019"))
            elif op == "IN":
                out.append(self.characters(value))
            elif op in ("MAX_REPEAT", "MIN_REPEAT"):
                low, high, what = value
                high = low + 5 if str(high) == "MAXREPEAT" else min(int(high), low + 6)
                out += [self.pattern(what) for _ in range(max(self.random.randint(low, high), 1 if high > 1 else 0))]
            elif op == "SUBPATTERN":
                out.append(self.pattern(value[-1]))
            elif op == "BRANCH": # of paths, the kind that begins with /
                first = self.pattern(value[1][0])
                out.append(first if first.startswith("/") else self.pattern(self.random.choice(value[1])))
            elif op == "CATEGORY":
                out.append("1")
        return "".join(out)

    def data(self, node):
        params = {p.get("name"): p.text for p in node.findall(RNG + "param")}
        if "pattern" in params:
            return self.pattern(sre_parse.parse(params["pattern"]))
        name = node.get("type").lower()
        if "int" in name or name in ("long", "unsignedlong", "short", "unsignedshort", "byte", "unsignedbyte"):
            low = int(params.get("minInclusive", 1 if name == "positiveinteger" else 0))
            return str(self.random.randint(low, min(int(params.get("maxInclusive", low + 60)), low + 60)))
        return {"double": "1.5", "decimal": "1.5", "float": "1.5", "datetime": "2020-01-01T00:00:00", "base64binary": "QUJD", "boolean": "true"}.get(name) or \
            self.random.choice(["abc", "x1", "/a/b", "n-1"])

    # ---- structure ----

    def definition(self, name):
        parts = self.grammar.defines[name]
        if len(parts) > 1 and parts[0].get("combine") == "choice":
            parts = [self.random.choice(parts)]
        return [node for part in parts for node in part]

    def named(self, node):
        """Name and content of an element or attribute; no name where any would do."""
        if node.get("name"):
            return node.get("name"), list(node)
        names = [n.text for n in node[0].iter(RNG + "name")]
        return (self.random.choice(names) if names else None), list(node)[1:]

    def wanted(self, node):
        count = self.often.get(node, 0)
        self.often[node] = count + 1
        return self.random.random() < (0.6 if count < 3 else self.share)

    def chosen(self, node):
        parts = [p for p in node if kind(p)]
        one = self.random.choices(parts, [1 / (1 + self.often.get(p, 0)) for p in parts])[0]
        self.often[one] = self.often.get(one, 0) + 1
        return one

    def nodes(self, nodes, attributes, out):
        for node in nodes:
            self.node(node, attributes, out)

    def element(self, node, out):
        name, content = self.named(node)
        if name is None or node.get("ns"):
            return
        attributes, inside = {}, []
        self.nodes(content, attributes, inside)
        head = name + "".join(f" {k}={quoteattr(v)}" for k, v in attributes.items())
        out.append(f"<{head}>{''.join(inside)}</{name}>" if any(inside) else f"<{head}/>")

    def attribute(self, node, attributes):
        name, content = self.named(node)
        if name is None:
            return
        text = []
        self.nodes(content, {}, text)
        attributes[name] = unescape("".join(text)) if content else "abc"

    def reference(self, node, attributes, out):
        name = node.get("name")
        if name in self.replace:
            out.append(self.replace[name])
        elif self.depth < DEEP:
            self.depth += 1
            self.nodes(self.definition(name), attributes, out)
            self.depth -= 1

    def node(self, node, attributes, out):
        what = kind(node)
        if what == "ref":
            self.reference(node, attributes, out)
        elif what == "element":
            self.element(node, out)
        elif what == "attribute":
            self.attribute(node, attributes)
        elif what in ("optional", "zeroOrMore"):
            if self.wanted(node):
                self.nodes(node, attributes, out)
        elif what in ("oneOrMore", "interleave", "group", "start"):
            self.nodes(node, attributes, out)
        elif what == "choice":
            self.node(self.chosen(node), attributes, out)
        elif what == "text":
            out.append(f"t{self.random.randint(0, 10 ** 9)}")
        elif what == "value":
            out.append(escape(node.text or ""))
        elif what == "data":
            out.append(escape(self.data(node)))
        elif what == "list":
            words = []
            for part in node:
                self.node(part, {}, words)
            out.append(" ".join(words))


def inside(grammar, name, skip=()):
    """The elements, and references to some, that stand directly in the definition; where that is one element, in that."""
    found = []

    def walk(node):
        for part in node:
            if kind(part) == "ref":
                found.extend([part] if part.get("name") not in skip else [])
            elif kind(part) == "element":
                found.append(part)
            elif kind(part) != "attribute":
                walk(part)
    node = grammar.defines[name][0]
    walk(node[0] if kind(node[0]) == "element" else node)
    return found


def shape(text):
    """A message without what is particular to one document."""
    return re.sub(r"line \d+", "", re.sub(r"'[^']*'", "_", text))
