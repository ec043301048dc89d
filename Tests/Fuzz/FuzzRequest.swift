// libFuzzer target: request heads. Built together with the files of Sources/HTTP as one module.

nonisolated(unsafe) private let whole = RequestHead(limits: HeadLimits())
nonisolated(unsafe) private let part = RequestHead(limits: HeadLimits())
nonisolated(unsafe) private let second = RequestHead(limits: HeadLimits())

@c(LLVMFuzzerTestOneInput)
public func fuzzRequest(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    let bytes = UnsafeRawBufferPointer(start: start, count: count)
    let outcome = whole.parse(bytes)
    checkPrefixes(bytes, outcome) { part.parse($0) }
    guard case .complete(let headBytes) = outcome else { return 0 }
    precondition(whole.fields.count <= whole.limits.fieldsMax)
    checkFields(bytes, whole.fields, headBytes: headBytes)
    for range in [whole.methodRange, whole.target, whole.path, whole.authority] {
        precondition(range.end <= headBytes)
    }
    precondition(!whole.target.isEmpty && !whole.methodRange.isEmpty)
    precondition(whole.versionMinor <= 1 && whole.framing != .untilClose)
    precondition(whole.versionMinor == 0 || (whole.hasHost && !whole.authority.isEmpty))
    let lengths = whole.fields.contains(.contentLength)
    let codings = whole.fields.contains(.transferEncoding)
    precondition(!(lengths && codings))
    switch whole.framing {
    case .none: precondition(!lengths && !codings)
    case .length: precondition(lengths)
    case .chunked: precondition(codings && whole.versionMinor == 1)
    case .untilClose: preconditionFailure()
    }
    checkForwarded(bytes)
    return 0
}

/// The head as a proxy would pass it on is read again, and says the same: what we send has one
/// reading too.
private func checkForwarded(_ bytes: UnsafeRawBufferPointer) {
    guard whole.targetForm == .origin, whole.versionMinor == 1 else { return }
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 70_000, alignment: 16)
    defer { memory.deallocate() }
    var writer = HeadWriter(memory)
    writer.append(whole.methodRange.bytes(in: bytes))
    writer.append(byte: 0x20)
    writer.append(whole.path.bytes(in: bytes))
    writer.append(" HTTP/1.1\r\n")
    for position in 0..<whole.fields.count where !whole.fields[position].isHopByHop {
        writer.append(whole.fields[position].line.bytes(in: bytes))
    }
    if whole.framing == .chunked { writer.append("Transfer-Encoding: chunked\r\n") }
    writer.append("\r\n")
    precondition(!writer.overflowed)
    // A target may be longer by the limits only where the head was.
    precondition(second.parse(writer.written) == .complete(headBytes: writer.count))
    precondition(second.framing == whole.framing && second.method == whole.method)
    precondition(
        second.authority.bytes(in: writer.written).elementsEqual(whole.authority.bytes(in: bytes)))
    precondition(second.path.bytes(in: writer.written).elementsEqual(whole.path.bytes(in: bytes)))
    for position in 0..<second.fields.count where second.fields[position].known != .transferEncoding
    {
        precondition(!second.fields[position].isHopByHop)
    }
}
