// The package's byte-pair tokenizer, from its own description {merges, context, pad}: a text to token ids.
const [BEGIN, END, WORD_END] = ["<|startoftext|>", "<|endoftext|>", "</w>"];
const ENDS = /(<\|startoftext\|>|<\|endoftext\|>)/u;
const WORD = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}]+/gu;

// A letter that can be seen for each byte, in the order of the published vocabulary.
function letters() {
    const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);
    const seen = [...range(33, 127), ...range(161, 173), ...range(174, 256)];
    const hidden = range(0, 256).filter((byte) => !seen.includes(byte));
    return new Map([
        ...seen.map((byte) => [byte, String.fromCodePoint(byte)]),
        ...hidden.map((byte, i) => [byte, String.fromCodePoint(256 + i)]),
    ]);
}

// The words of a text; each letter is made small by itself, so that a Σ at the end of a word is a σ.
function wordsOf(text) {
    return text.split(ENDS).flatMap((part) => {
        if (part === BEGIN || part === END) return [part];
        return Array.from(part.normalize("NFC"), (letter) => letter.toLowerCase()).join("").match(WORD) ?? [];
    });
}

function joined(parts, first, second) {
    const out = [];
    for (const part of parts) {
        if (out.at(-1) === first && part === second) out[out.length - 1] += part;
        else out.push(part);
    }
    return out;
}

// A function from a text to `context` ids; a longer text is `cut`, and its END kept.
export function tokenizer({ merges, context, pad, vocabulary }) {
    const letterOf = letters();
    const pairs = merges.map((line) => line.split(" "));
    const rank = new Map(merges.map((line, i) => [line, i]));
    const spelt = [...letterOf.values()];
    const tokens = [...spelt, ...spelt.map((letter) => letter + WORD_END), ...pairs.map((pair) => pair.join("")), BEGIN, END];
    const ids = new Map(vocabulary ? Object.entries(vocabulary) : tokens.map((token, i) => [token, i]));

    function partsOf(word) {
        if (word === BEGIN || word === END) return [word];
        let parts = Array.from(new TextEncoder().encode(word), (byte) => letterOf.get(byte));
        parts[parts.length - 1] += WORD_END;
        for (;;) {
            const ranks = parts.slice(1).map((part, i) => rank.get(`${parts[i]} ${part}`) ?? Infinity);
            const best = Math.min(...ranks);
            if (best === Infinity) return parts;
            parts = joined(parts, ...pairs[best]);
        }
    }

    return (text) => {
        const all = [BEGIN, ...wordsOf(text).flatMap(partsOf)];
        const said = all.slice(0, context - 1);
        const filled = [...said, END, ...Array(context - said.length - 1).fill(pad)];
        return { ids: filled.map((token) => ids.get(token)), cut: all.length > said.length };
    };
}
