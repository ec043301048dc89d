import Glibc
import HTTP
import Testing

/// A second opinion: the grammar of RFC 9112 spelled out byte by byte, slow and plain, for the part
/// of a request head that decides where lines and fields begin and end.
enum Oracle {
    /// Name and value of each field of a head that starts at a request line; nil where it is no
    /// head, or an unfinished one.
    static func fields(_ source: [UInt8]) -> (headBytes: Int, fields: [[UInt8]])? {
        var lines: [[UInt8]] = []
        var line: [UInt8] = []
        var index = 0
        while true {
            guard index < source.count else { return nil }
            let byte = source[index]
            index += 1
            if byte == 0x0A { return nil }
            guard byte == 0x0D else {
                line.append(byte)
                continue
            }
            guard index < source.count, source[index] == 0x0A else { return nil }
            index += 1
            if line.isEmpty { break }
            lines.append(line)
            line = []
        }
        guard !lines.isEmpty else { return nil }
        var fields: [[UInt8]] = []
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: 0x3A), colon > 0 else { return nil }
            let name = line[..<colon]
            guard name.allSatisfy({ token.contains($0) }) else { return nil }
            var value = line[(colon + 1)...]
            while let first = value.first, first == 0x20 || first == 0x09 { value.removeFirst() }
            while let last = value.last, last == 0x20 || last == 0x09 { value.removeLast() }
            guard value.allSatisfy({ $0 == 0x09 || ($0 >= 0x20 && $0 != 0x7F) }) else { return nil }
            fields.append(name + [0x3D] + value)
        }
        return (index, fields)
    }

    static let token = Set(
        bytes("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
}

@Suite struct MutationTests {
    private static let interesting: [UInt8] = [
        0x00, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1F, 0x20, 0x22, 0x23, 0x2C, 0x2D, 0x2F, 0x30, 0x39,
        0x3A,
        0x3B, 0x40, 0x41, 0x5A, 0x5B, 0x5F, 0x60, 0x61, 0x7A, 0x7B, 0x7E, 0x7F, 0x80, 0xA0, 0xFF,
    ]

    private func mutated(_ seed: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
        var source = seed
        for _ in 0..<Int.random(in: 1...3, using: &generator) where !source.isEmpty {
            let at = Int.random(in: 0..<source.count, using: &generator)
            let byte =
                Bool.random(using: &generator)
                ? Self.interesting.randomElement(using: &generator)!
                : UInt8.random(in: 0...255, using: &generator)
            switch Int.random(in: 0..<5, using: &generator) {
            case 0: source[at] = byte
            case 1: source.insert(byte, at: at)
            case 2: source.remove(at: at)
            case 3: source.insert(contentsOf: bytes("\r\n"), at: at)
            default:
                let end = min(source.count, at + Int.random(in: 1...20, using: &generator))
                source.insert(
                    contentsOf: source[at..<end], at: Int.random(in: 0...at, using: &generator))
            }
        }
        return source
    }

    // What the parser accepts, the oracle accepts with the same fields; where the oracle sees no
    // head, the parser completes none.
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func requestsAgreeWithTheOracle(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let bench = RequestBench()
        let seeds = AcceptedRow.all.map { bytes($0.head) }.filter { $0[0] != 0x0D }
        var completed = 0
        for round in 0..<20_000 {
            let source = mutated(seeds.randomElement(using: &generator)!, &generator)
            guard case .complete(let headBytes) = bench.parse(source) else { continue }
            // Empty lines before the head are the request line's business.
            var start = 0
            while source[start] == 0x0D { start += 2 }
            completed += 1
            guard let expected = Oracle.fields(Array(source[start...])) else {
                Issue.record("seed \(seed), round \(round): \(source) is no head")
                return
            }
            let found = (0..<bench.head.fields.count).map {
                let field = bench.head.fields[$0]
                return Array(source[field.name.start..<field.name.end]) + [0x3D]
                    + Array(source[field.value.start..<field.value.end])
            }
            guard expected.headBytes + start == headBytes, expected.fields == found else {
                Issue.record("seed \(seed), round \(round): \(source)")
                return
            }
        }
        #expect(completed > 1_000)
    }

    // The other direction: fields that the oracle reads are read, unless what they say is refused.
    @Test(arguments: [5, 6] as [UInt64])
    func whatIsAHeadIsRead(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let bench = ResponseBench()
        let start = bytes("HTTP/1.1 200 OK\r\n")
        for round in 0..<20_000 {
            let lines = bytes(
                "A: b\r\nLong-Name-Of-A-Field:  some longer value here\t\r\nX-1_2.3: \u{FF}\r\n")
            let source = start + mutated(lines, &generator) + bytes("\r\n")
            let outcome = bench.parse(source)
            if let expected = Oracle.fields(source) {
                guard outcome == .complete(headBytes: expected.headBytes) else {
                    Issue.record("seed \(seed), round \(round): \(outcome) for \(source)")
                    return
                }
            } else if case .complete = outcome {
                Issue.record("seed \(seed), round \(round): complete for \(source)")
                return
            }
        }
    }

    @Test(arguments: [7, 8, 9] as [UInt64])
    func chunkedBodiesReadTheSameHoweverSplit(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let memory = GuardedMemory()
        let seeds = ChunkedRow.accepted.map { bytes($0.body) }
        for round in 0..<5_000 {
            let source = mutated(seeds.randomElement(using: &generator)!, &generator)
            let whole = readChunked(source, cuts: [], memory: memory)
            var cuts: [Int] = []
            var at = 0
            while at < source.count {
                at += Int.random(in: 1...9, using: &generator)
                cuts.append(min(at, source.count))
            }
            let split = readChunked(source, cuts: cuts, memory: memory)
            #expect(
                split.fault == whole.fault && split.isDone == whole.isDone, "seed \(seed), \(round)"
            )
            guard whole.fault == nil else { continue }
            #expect(split == whole, "seed \(seed), round \(round): \(source)")
        }
    }
}

/// What the fuzz targets found, and the inputs that they start from, run with every test.
@Suite struct FuzzCorpusTests {
    private func inputs(_ target: String) -> [[UInt8]] {
        let file = #filePath
        let folder = file[..<file.lastIndex(of: "/")!] + "/../Fuzz/corpus/\(target)"
        guard let directory = opendir(String(folder)) else { return [] }
        defer { closedir(directory) }
        var inputs: [[UInt8]] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard name != ".", name != "..", let handle = fopen("\(folder)/\(name)", "rb") else {
                continue
            }
            defer { fclose(handle) }
            var input = [UInt8](repeating: 0, count: 70_000)
            let count = fread(&input, 1, input.count, handle)
            inputs.append(Array(input[..<count]))
        }
        return inputs
    }

    @Test func heads() {
        let requests = inputs("request")
        let answers = inputs("answer")
        #expect(requests.count >= 5 && answers.count >= 5)
        let request = RequestBench()
        let answer = ResponseBench()
        for input in requests {
            let outcome = request.parse(input)
            for count in 0..<input.count {
                if case .complete(let headBytes) = request.parse(input[..<count]) {
                    #expect(outcome == .complete(headBytes: headBytes))
                }
            }
        }
        for input in answers where !input.isEmpty {
            let toHead = input[0] & 1 == 1
            let outcome = answer.parse(input[1...], toHead: toHead, toConnect: input[0] & 2 == 2)
            for count in 1..<input.count {
                let prefix = answer.parse(
                    input[1..<count], toHead: toHead, toConnect: input[0] & 2 == 2)
                if case .complete(let headBytes) = prefix {
                    #expect(outcome == .complete(headBytes: headBytes))
                }
            }
        }
    }

    @Test func chunkedBodies() {
        let bodies = inputs("chunked")
        #expect(bodies.count >= 3)
        let memory = GuardedMemory()
        for input in bodies where !input.isEmpty {
            let source = Array(input[1...])
            let whole = readChunked(source, cuts: [], memory: memory)
            let bytewise = readChunked(source, cuts: Array(0..<source.count), memory: memory)
            #expect(whole.fault == bytewise.fault && whole.isDone == bytewise.isDone)
            if whole.fault == nil { #expect(whole == bytewise) }
        }
    }
}
