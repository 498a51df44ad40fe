# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes C tables (schema.h) of *.schema files. The grammar is in schema.md. Usage: schema_compile.py OUTPUT.c FILE.schema..."""
import os
import re
import sys

KINDS = {'uint': 'UINT', 'int': 'INT', 'hex': 'HEX', 'hexu': 'HEXU', 'hexa': 'HEXA', 'oct': 'OCT', 'bool': 'BOOL', 'onoff': 'ONOFF', 'uuid': 'UUID', 'name': 'NAME', 'path': 'PATH',
         'abspath': 'ABSPATH', 'mac': 'MAC', 'ip': 'IP', 'scaled': 'SCALED', 'cpuset': 'CPUSET', 'text': 'TEXT', 'any': 'ANY', 'raw': 'RAW',
         'number': 'NUMBER', 'unit': 'UNIT', 'wwn': 'WWN', 'diskdev': 'DISKDEV', 'usbport': 'USBPORT', 'time': 'TIME'}
RANGES = {'u8': (0, 255), 'u16': (0, 65535), 'u32': (0, 0xffffffff), 'u64': (0, (1 << 64) - 1)}
NAME = r'[A-Za-z_][\w.:-]*'
ELEMENT_FLAGS = {'~': 'UNORDERED', 'open': 'OPEN', 'blank': 'BLANK', 'xmlns': 'XMLNS_FIRST'}


class Mistake(Exception):
    pass


class Line:
    """One line of a schema with the lines inside it."""

    def __init__(self, where, text):
        self.where, self.text, self.inside, self.index = where, text, [], None

    def fail(self, message):
        raise Mistake(f'{self.where}: {message}: {self.text}')


def read(path):
    """The lines at the left margin, each with what is inside it."""
    top, stack = [], []
    with open(path, encoding='utf-8') as f:
        for number, raw in enumerate(f, 1):
            text = re.sub(r'(^|\s)#.*', '', raw.rstrip('\n')).rstrip()
            if not text.strip():
                continue
            line = Line(f'{path}:{number}', text.strip())
            depth = len(text) - len(text.lstrip(' '))
            if depth % 2 or depth // 2 > len(stack):
                line.fail('indentation is not two blanks a level')
            del stack[depth // 2:]
            (stack[-1].inside if stack else top).append(line)
            stack.append(line)
    return top


class Tables:
    def __init__(self):
        self.words, self.word_numbers = [''], {'': 0}
        self.lists, self.list_numbers = [0], {}
        self.ranges, self.conds = [(0, 0)], [(0, 0, False, False)]
        self.range_numbers, self.cond_numbers = {}, {}
        self.attrs, self.els, self.links = [None], [None], [None]
        self.groups, self.values, self.namespaces, self.roots = {}, {}, {}, {}
        self.used = set()

    def common(self):
        """Values that most documents hold, so that they cost them nothing."""
        for text in [str(n) for n in range(64)] + [f'0x{n:02x}' for n in range(32)] + [f'0x{n}' for n in range(8)] + ['0x0000', '-']:
            self.word(text)

    def word(self, text):
        if text not in self.word_numbers:
            self.word_numbers[text] = len(self.words)
            self.words.append(text)
        return self.word_numbers[text]

    def list_of(self, words):
        key = tuple(words)
        if not key:
            return 0
        if key not in self.list_numbers:
            self.list_numbers[key] = len(self.lists)
            self.lists += [len(key)] + [self.word(w) for w in key]
        return self.list_numbers[key]

    def range_of(self, pair):
        if pair not in self.range_numbers:
            self.range_numbers[pair] = len(self.ranges)
            self.ranges.append(pair)
        return self.range_numbers[pair]

    def cond_of(self, rows):
        """rows: ((attribute, words, negate), ...), all of which must hold."""
        if not rows:
            return 0
        if rows not in self.cond_numbers:
            self.cond_numbers[rows] = len(self.conds)
            for i, (name, words, negate) in enumerate(rows):
                self.conds.append((self.word(name), self.list_of(words), negate, i + 1 < len(rows)))
        return self.cond_numbers[rows]

    def split_words(self, line, text):
        """a|b|$named|'quoted' as a list of words."""
        words = []
        for part in re.findall(r"'[^']*'|[^|]+", text):
            if part.startswith('$'):
                if part[1:] not in self.values:
                    line.fail(f'no values {part}')
                words += [w for w in self.values[part[1:]] if w not in words]
            else:
                words.append(part[1:-1] if part.startswith("'") else part)
        if len(set(words)) != len(words):
            line.fail('a word stands twice')
        return words

    def kind(self, line, token):
        """(kind, list, range, width, unit) of one token: KIND[width][(low..high)][:unit][/words], or words."""
        m = re.fullmatch(r"([a-z]+?)(\d*)(?:\((-?\w*)\.\.(\w*)\))?(?::(\w+))?(?:/(.+))?", token)
        if token in RANGES:
            return 'UINT', 0, self.range_of(RANGES[token]), 0, 0
        if not m or m[1] not in KINDS:
            if '|' not in token and not token.startswith(("'", '$')):
                line.fail(f"no kind '{token}' (a list of one word is quoted: '{token}')")
            return 'WORDS', self.list_of(self.split_words(line, token)), 0, 0, 0
        limits = 0
        if m[3] is not None:
            low = int(m[3], 0) if m[3] else -(1 << 63)
            limits = self.range_of((low, int(m[4], 0) if m[4] else (1 << 64) - 1))
        extra = self.list_of(self.split_words(line, m[6])) if m[6] else 0
        return KINDS[m[1]], extra, limits, int(m[2] or 0), self.word(m[5]) if m[5] else 0

    def attr(self, line, cond):
        m = re.fullmatch(rf'(-?)@({NAME})(!?)((?:\s+\S+)*)', line.text)
        if not m or line.inside:
            line.fail('an attribute is @name, @name! and a kind, with nothing inside')
        tokens = m[4].split()
        fallback = [t for t in tokens if t.startswith('=')]
        tokens = [t for t in tokens if not t.startswith('=')]
        if len(tokens) > 1 or len(fallback) > 1:
            line.fail('too many words')
        kind, words, limits, width, unit = self.kind(line, tokens[0] if tokens else 'any')
        flags = (1 if m[3] else 0) | (4 if m[1] else 0)
        return (self.word(m[2]), words, limits, cond, self.word(fallback[0][1:]) if fallback else 0, kind, flags, width, unit)

    def element(self, line):
        """Row number of the element on this line."""
        if line.index is not None:
            return line.index
        m = re.fullmatch(rf'(-?)({NAME})([!*+]?)((?:\s+\S+)*)', line.text)
        if not m:
            line.fail('not an element')
        flags, kinds = set(), []
        for token in m[4].split():
            if token in ELEMENT_FLAGS:
                flags.add(ELEMENT_FLAGS[token])
            else:
                kinds.append(token)
        if len(kinds) > 1:
            line.fail('more than one kind')
        line.index = len(self.els)
        self.els.append(None)
        kind, words, limits, width, unit = self.kind(line, kinds[0]) if kinds else ('NONE', 0, 0, 0, 0)
        attrs, links = self.content(line)
        if ':' not in m[2] and any(':' in link[3] for link in links):
            flags.add('PREFIXED')
        if any(a[8] for a in attrs):
            flags.add('SCALES')
        if any(link[2] & 1 for link in links):
            flags.add('NEEDS')
        if any(a[3] for a in attrs) or any(link[1] for link in links):
            flags.add('VARIES')
        if len(attrs) > 100:
            line.fail('more than 100 attributes')
        first_attr, first_link = len(self.attrs), len(self.links)
        self.attrs += attrs
        self.links += [link[:3] for link in links]
        self.els[line.index] = (self.word(m[2]), words, limits, unit, first_attr, len(attrs), first_link, len(links), kind, sorted(flags), width)
        return line.index

    def content(self, line):
        """Attributes and links of the lines inside `line`."""
        attrs, links = [], []
        self.collect(line, (), attrs, links, [])
        seen = {}
        for a in attrs:
            if (a[0], a[3]) in seen:
                line.fail(f"attribute '{self.words[a[0]]}' twice")
            seen[(a[0], a[3])] = True
        seen = {}
        for el, cond, _, name in links:
            if (name, cond) in seen:
                line.fail(f"element '{name}' twice")
            seen[(name, cond)] = True
        return attrs, links

    def collect(self, line, cond, attrs, links, path):
        for inner in line.inside:
            text = inner.text
            if text.startswith('&'):
                name = text[1:]
                if name not in self.groups:
                    inner.fail('no such group')
                if name in path:
                    inner.fail('a group holds itself')
                self.used.add(name)
                self.collect(self.groups[name], cond, attrs, links, path + [name])
            elif text.startswith('['):
                self.collect(inner, cond + self.condition(inner), attrs, links, path)
            elif text.startswith(('@', '-@')):
                attrs.append(self.attr(inner, self.cond_of(cond)))
            else:
                m = re.match(rf'(-?)({NAME})([!*+]?)', text)
                if not m:
                    inner.fail('not an element, attribute, &group or [condition]')
                flags = {'!': 1, '*': 2, '+': 3, '': 0}[m[3]] | (4 if m[1] else 0)
                links.append((self.element(inner), self.cond_of(cond), flags, m[2]))

    def condition(self, line):
        rows = []
        if not line.text.endswith(']'):
            line.fail('a condition is [attribute=word|word,...]')
        for part in line.text[1:-1].split(','):
            m = re.fullmatch(rf'\s*({NAME})(!?)=(\S+)\s*', part)
            if not m:
                line.fail('a condition is [attribute=word|word,...]')
            rows.append((m[1], tuple(self.split_words(line, m[3])), bool(m[2])))
        return tuple(rows)

    def load(self, path):
        name = os.path.basename(path).removesuffix('.schema')
        roots = []
        for line in read(path):
            word, _, rest = line.text.partition(' ')
            if word == 'group':
                if rest in self.groups:
                    line.fail(f'the group is at {self.groups[rest].where} already')
                self.groups[rest] = line
            elif word == 'values':
                key, _, words = rest.partition(' ')
                self.values[key] = self.split_words(line, words.replace(' ', ''))
                for more in line.inside:
                    self.values[key] += self.split_words(more, more.text.replace(' ', '').strip('|'))
            elif word == 'namespace':
                prefix, _, uri = rest.partition(' ')
                self.namespaces[prefix] = uri.strip()
            else:
                roots.append(line)
        if len(roots) > 1:
            roots[1].fail('a second root element')
        if roots:
            self.roots[name] = roots[0]


def fnv(text):
    h = 2166136261
    for b in text.encode():
        h = ((h ^ b) * 16777619) & 0xffffffff
    return h


def emit(t, out):
    def table(kind, name, rows):
        out.write(f'const {kind} {name}[] = {{\n')
        for row in rows:
            out.write(f'    {row},\n')
        out.write('};\n')

    quote = lambda s: '"' + s.replace('\\', '\\\\').replace('"', '\\"') + '"'
    out.write('/* Made by schema_compile.py. */\n#include "manage/model/doc.h"\n#include "manage/model/schema.h"\n\n')
    table('char *const', 'schema_words', [quote(w) for w in t.words])
    table('uint8_t', 'schema_lengths', [', '.join(str(min(len(w.encode()), 255)) for w in t.words[i:i + 32]) for i in range(0, len(t.words), 32)])
    out.write(f'const uint16_t schema_missing = {t.word("-")};\n')
    out.write(f'const uint16_t schema_nwords = {len(t.words)};\n')
    size = 64
    while size < 3 * len(t.words):
        size *= 2
    slots = [0] * size
    for i, w in enumerate(t.words[1:], 1):
        at = fnv(w) & (size - 1)
        while slots[at]:
            at = (at + 1) & (size - 1)
        slots[at] = i
    out.write(f'const uint32_t schema_hash_mask = {size - 1};\n')
    table('uint16_t', 'schema_hash', [', '.join(map(str, slots[i:i + 32])) for i in range(0, size, 32)])
    table('uint16_t', 'schema_lists', [', '.join(map(str, t.lists[i:i + 32])) for i in range(0, len(t.lists), 32)])
    table('struct schema_range', 'schema_ranges',
          [f'{{ {f"{low}" if low > -(1 << 63) else "INT64_MIN"}, {high}u }}' for low, high in t.ranges])
    table('struct schema_cond', 'schema_conds', [f'{{ {n}, {l}, {int(neg)}, {int(more)} }}' for n, l, neg, more in t.conds])
    table('struct schema_attr', 'schema_attrs',
          ['{ 0 }'] + [f'{{ {n}, {l}, {r}, {c}, {d}, KIND_{k}, {f}, {w}, {u} }}' for n, l, r, c, d, k, f, w, u in t.attrs[1:]])
    rows = ['{ 0 }']
    for n, l, r, u, a, na, k, nk, kind, flags, width in t.els[1:]:
        rows.append(f'{{ {n}, {l}, {r}, {u}, {a}, {na}, {k}, {nk}, KIND_{kind}, {width}, {" | ".join("SCHEMA_" + f for f in flags) or 0} }}')
    table('struct schema_el', 'schema_els', rows)
    table('struct schema_link', 'schema_links', ['{ 0 }'] + [f'{{ {e}, {c}, {f} }}' for e, c, f in t.links[1:]])
    table('struct schema_namespace', 'schema_namespaces', [f'{{ {quote(p)}, {quote(u)} }}' for p, u in t.namespaces.items()] + ['{ NULL, NULL }'])
    for name, root in t.roots.items():
        out.write(f'const struct schema schema_{name} = {{ "{name}", {root.index} }};\n')


def main():
    t = Tables()
    try:
        t.common()
        for path in sys.argv[2:]:
            t.load(path)
        for root in t.roots.values():
            t.element(root)
        for name in sorted(set(t.groups) - t.used):
            t.groups[name].fail('nobody uses the group')
        for table in (t.words, t.lists, t.attrs, t.els, t.links, t.conds):
            if len(table) > 0xfff0:
                raise Mistake('a table has more than 65,520 rows')
    except (Mistake, OSError) as mistake:
        sys.exit(f'{mistake}')
    with open(sys.argv[1], 'w', encoding='utf-8') as out:
        emit(t, out)


if __name__ == '__main__':
    main()
