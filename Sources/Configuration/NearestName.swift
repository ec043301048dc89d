/// Finds what a misspelt name was meant to be.
enum NearestName {
    /// The candidate nearest to `name`, where one is near enough to be meant; the first of equals.
    /// Where none is, the only one that has `name` for a word.
    static func of(_ name: String, in candidates: [String]) -> String? {
        // A key of a megabyte would cost minutes to compare, and is no slip of the finger.
        guard name.utf8.count <= ConfigurationLimits.quotedCharactersMax else { return nil }
        let plainName = folded(name)
        guard !plainName.isEmpty else { return nil }
        var best: (name: String, distance: Int)?
        for candidate in candidates {
            let plainCandidate = folded(candidate)
            let distance = distance(plainName, plainCandidate)
            // A third of the longer name may differ, and three letters at most.
            guard distance <= min(3, max(plainName.count, plainCandidate.count) / 3) else {
                continue
            }
            if best == nil || distance < best!.distance { best = (candidate, distance) }
        }
        return best?.name ?? withWord(name, in: candidates)
    }

    /// The only candidate that has `name` for one of its words: `url` is `base_url`.
    private static func withWord(_ name: String, in candidates: [String]) -> String? {
        let found = candidates.filter { $0.split(separator: "_").contains { $0 == name } }
        return found.count == 1 ? found[0] : nil
    }

    /// Lower case, without `_` and `-`: `maxBodyBytes` and `max-body-bytes` are `max_body_bytes`.
    private static func folded(_ name: String) -> [UInt8] {
        name.lowercased().utf8.filter { $0 != UInt8(ascii: "_") && $0 != UInt8(ascii: "-") }
    }

    /// Damerau's and Levenshtein's distance, of the restricted kind: insertions, deletions,
    /// replacements and swaps of neighbours, no letter touched twice.
    static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var before = [Int](repeating: 0, count: b.count + 1)
        var last = Array(0...b.count)
        for i in a.indices {
            var row = [i + 1] + [Int](repeating: 0, count: b.count)
            for j in b.indices {
                let change = last[j] + (a[i] == b[j] ? 0 : 1)
                row[j + 1] = min(change, last[j + 1] + 1, row[j] + 1)
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
                    row[j + 1] = min(row[j + 1], before[j - 1] + 1)
                }
            }
            (before, last) = (last, row)
        }
        return last[b.count]
    }
}
