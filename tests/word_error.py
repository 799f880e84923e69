#!/usr/bin/env python3
"""Word error rate of recordings by an independent recogniser: pocketsphinx with its US English model.

    pip install pocketsphinx
    tests/word_error.py data/speech/speech.jsonl --split held-out            # the data's own recordings
    tests/word_error.py data/speech/speech.jsonl --split held-out --wavs out # others of the same names (00000.wav, ...)

By default a word may follow another one where it does so in some text (a word-pair grammar); `--open` uses the model's trigram language
model.
`ravel eval` runs this file for pipelines that speak.
"""

import argparse
import json
import pathlib
import re
import sys
import wave

from pocketsphinx import Decoder


def words(text):
    return re.findall(r"[a-z']+", text.lower())


def errors(expected, found):
    """Substitutions, deletions and insertions at least."""
    row = list(range(len(found) + 1))
    for at, word in enumerate(expected, 1):
        before, row[0] = row[0], at
        for to, heard in enumerate(found, 1):
            before, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, before + (word != heard))
    return row[-1]


def sound(path):
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (16000, 1, 2):
            sys.exit(f"{path}: 16 kHz, one channel and 16 bits are expected")
        silence = bytes(2 * 3200)
        return silence + file.readframes(file.getnframes()) + silence


def recogniser(rows, use_lm):
    decoder = Decoder(samprate=16000, loglevel="FATAL")
    if use_lm:
        return decoder
    followers = {}
    for row in rows:
        known = [word for word in words(row["text"]) if decoder.lookup_word(word)]
        for before, word in zip([None, *known], [*known, None]):
            followers.setdefault(before, set()).add(word)
    # A state stands for the word that led to it: the first one for none, the last one for the end.
    state = {word: at for at, word in enumerate(sorted(filter(None, followers)), 1)}
    state[None], end = 0, len(state) + 1
    steps = []
    for before, after in sorted(followers.items(), key=lambda item: state[item[0]]):
        for word in sorted(filter(None, after)):
            steps.append((state[before], state[word], 1 / len(after), word))
        # A recording may break off anywhere.
        steps.append((state[before], end, 1 / len(after)))
    decoder.add_fsg("pairs", decoder.create_fsg("pairs", 0, end, steps))
    decoder.activate_search("pairs")
    return decoder


def listed(path, split):
    rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [row for row in rows if row.get("split", "train") == split]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=pathlib.Path, help="JSON lines with file, text and split")
    parser.add_argument("--split", default="held-out")
    parser.add_argument("--wavs", type=pathlib.Path, help="folder with a file of the same name for every row")
    parser.add_argument("--vocabulary", type=pathlib.Path, help="other rows, whose words make up the grammar")
    parser.add_argument("--open", action="store_true", help="the trigram language model instead of a grammar")
    parser.add_argument("--limit", type=int, help="so many rows only")
    parser.add_argument("--json", action="store_true", help="print the counts as a JSON object")
    parser.add_argument("--show", action="store_true", help="print what was heard")
    options = parser.parse_args()
    rows = listed(options.rows, options.split)
    decoder = recogniser(listed(options.vocabulary or options.rows, options.split), options.open)
    rows = rows[: options.limit]
    wrong = total = 0
    for row in rows:
        folder = options.wavs or options.rows.parent
        name = pathlib.Path(row["file"]).name if options.wavs else row["file"]
        decoder.start_utt()
        decoder.process_raw(sound(folder / name), full_utt=True)
        decoder.end_utt()
        heard = decoder.hyp().hypstr.lower() if decoder.hyp() else ""
        heard = re.sub(r"\(\d+\)", "", heard).split()
        expected = words(row["text"])
        count = errors(expected, heard)
        wrong += count
        total += len(expected)
        if options.show:
            print(f"{count:2} {' '.join(expected)} | {' '.join(heard)}", flush=True)
    if options.json:
        print(json.dumps({"errors": wrong, "words": total, "recordings": len(rows)}))
        return
    print(f"{100 * wrong / total:.1f} % word errors: {wrong} of {total} words, {len(rows)} recordings")


main()
