import HTTP

/// One sample, ready to be parsed again and again.
final class Workload {
    let sample: Sample
    let bytes: UnsafeRawBufferPointer
    private let memory: UnsafeMutableRawBufferPointer
    private let request = RequestHead(limits: HeadLimits())
    private let answer = ResponseHead(limits: HeadLimits())
    private let output = UnsafeMutableRawBufferPointer.allocate(byteCount: 4_096, alignment: 16)

    init(_ sample: Sample) {
        self.sample = sample
        var body: [UInt8] = []
        let text = UnsafeBufferPointer(
            start: sample.text.utf8Start, count: sample.text.utf8CodeUnitCount)
        switch sample {
        case .chunked:
            for _ in 0..<16 {
                body += text
                body += [UInt8](repeating: 0x61, count: 1_024) + [0x0D, 0x0A]
            }
            body += [0x30, 0x0D, 0x0A, 0x0D, 0x0A]
        case .tinyChunks:
            for _ in 0..<256 { body += text }
            body += [0x30, 0x0D, 0x0A, 0x0D, 0x0A]
        default: body += text
        }
        memory = .allocate(byteCount: body.count, alignment: 16)
        memory.copyBytes(from: body)
        bytes = UnsafeRawBufferPointer(memory)
    }

    deinit {
        memory.deallocate()
        output.deallocate()
    }

    /// Parses the sample `count` times. The sum depends on every result, so that none is left out.
    @inline(never)
    func run(_ count: Int) -> Int {
        var sum = 0
        for _ in 0..<count { sum &+= runOnce() }
        return sum
    }

    @inline(__always)
    private func runOnce() -> Int {
        switch sample {
        case .curl, .service, .browser, .post:
            guard case .complete(let headBytes) = request.parse(bytes) else { fail() }
            return headBytes &+ request.fields.count
        case .nginx, .app:
            guard case .complete(let headBytes) = answer.parse(bytes, toHead: false) else { fail() }
            return headBytes &+ answer.fields.count
        case .chunked, .tinyChunks: return readChunks()
        case .rewrite:
            guard case .complete = request.parse(bytes) else { fail() }
            return write()
        }
    }

    @inline(never)
    private func readChunks() -> Int {
        var reader = ChunkedReader()
        var position = 0
        var steps = 0
        while true {
            switch reader.next(bytes, &position) {
            case .end: return steps
            case .needMore, .invalid: fail()
            default: steps &+= 1
            }
        }
    }

    @inline(never)
    private func write() -> Int {
        var writer = HeadWriter(output)
        writer.append(request.methodRange.bytes(in: bytes))
        writer.append(byte: 0x20)
        writer.append(request.path.bytes(in: bytes))
        writer.append(" HTTP/1.1\r\n")
        for position in 0..<request.fields.count {
            let field = request.fields[position]
            if !field.isHopByHop { writer.append(field.line.bytes(in: bytes)) }
        }
        writer.append("\r\n")
        return writer.count
    }

    private func fail() -> Never {
        preconditionFailure("\(sample.rawValue) was not read to its end")
    }
}
