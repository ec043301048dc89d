// libFuzzer target: chunked bodies. The first byte seeds where the body is split.

private struct Reading: Equatable {
    var payload: [UInt8] = []
    var trailers: [UInt8] = []
    var passedOn: [UInt8] = []
    var consumed = 0
    var fault: HeadFault?
    var isDone = false
}

private func read(_ bytes: UnsafeRawBufferPointer, pieceBytes: (Int) -> Int) -> Reading {
    var reader = ChunkedReader()
    var reading = Reading()
    var start = 0
    while start < bytes.count, !reading.isDone, reading.fault == nil {
        let end = min(bytes.count, start + max(1, pieceBytes(start)))
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: end - start, alignment: 1)
        defer { copy.deallocate() }
        copy.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
        readPiece(&reader, UnsafeRawBufferPointer(copy), &reading)
        start = end
    }
    return reading
}

private func readPiece(
    _ reader: inout ChunkedReader, _ piece: UnsafeRawBufferPointer, _ reading: inout Reading
) {
    var position = 0
    while true {
        let before = position
        let step = reader.next(piece, &position)
        precondition(position >= before && position <= piece.count)
        if case .invalid(let fault) = step {
            // How far the refused byte lies behind the last step depends on the split.
            reading.fault = fault
            return
        }
        let went = piece[before..<position]
        reading.consumed += went.count
        switch step {
        case .framing: reading.passedOn += went
        case .data:
            reading.payload += went
            reading.passedOn += went
        case .trailer: reading.trailers += went
        case .end:
            reading.isDone = true
            reading.passedOn += reading.trailers + [0x0D, 0x0A]
            return
        case .needMore:
            precondition(before == position && position == piece.count)
            return
        case .cut, .invalid: break
        }
        precondition(position > before)
    }
}

@c(LLVMFuzzerTestOneInput)
public func fuzzChunked(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    guard count > 0, let start else { return 0 }
    let bytes = UnsafeRawBufferPointer(start: start + 1, count: count - 1)
    let whole = read(bytes) { _ in bytes.count }
    for reading in [
        read(bytes, pieceBytes: { _ in 1 }),
        read(bytes, pieceBytes: { _ in Int(start[0] % 31) + 2 }),
        read(bytes, pieceBytes: { ($0 &* 31 &+ Int(start[0])) % 17 + 1 }),
    ] {
        precondition(reading.fault == whole.fault && reading.isDone == whole.isDone)
        guard whole.fault == nil else { continue }
        precondition(reading == whole)
    }
    if whole.isDone { checkPassedOn(whole) }
    return 0
}

/// What is passed on is a chunked body of the same payload and trailers, without extensions.
private func checkPassedOn(_ whole: Reading) {
    whole.passedOn.withUnsafeBytes { bytes in
        let again = read(bytes) { _ in bytes.count }
        precondition(again.isDone && again.consumed == bytes.count)
        precondition(again.payload == whole.payload && again.trailers == whole.trailers)
        precondition(again.passedOn == whole.passedOn)
    }
    let list = FieldList(capacity: 128)
    whole.trailers.withUnsafeBytes { bytes in
        if case .incomplete = TrailerParser.parse(bytes, into: list) {
            preconditionFailure("a whole trailer section is incomplete")
        }
    }
}
