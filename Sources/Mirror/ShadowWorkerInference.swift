import CoreLoop
import EventLog
import HTTP
import Providers
import Verdict

/// Copies that ask a model, at LLM shadows: read, brought into the shadow's form, and told of.
extension ShadowWorker {
    /// Makes of a copy, whose slices lie in scratch, what is sent to an LLM shadow. Why not, where
    /// nothing is; `exchange` stays nil where the copy asks no model and goes as it is.
    func prepare(
        _ copy: inout ShadowCopy, _ state: UnsafeMutablePointer<ShadowState>,
        _ exchange: inout InferenceExchange?
    ) -> DropReason? {
        guard copy.headBytes <= scratch.head.count else { return .invalidCopy }
        let head = piece(copy, scratch.slices, from: 0, copy.headBytes)
        guard let (inference, isPlain) = state.pointee.sanitizer.inference(head: head) else {
            guard let edit = state.pointee.edit else { return nil }
            return edit.admits(isReading: state.pointee.sanitizer.isReading(head))
                ? nil : .sideEffects
        }
        guard let edit = state.pointee.edit else {
            // No LLM provider's shadow: it goes as it is, and is told of all the same.
            copy.rewrite.inference = inference
            exchange = InferenceExchange()
            return nil
        }
        guard isPlain else { return .untranslatable }
        guard copy.bodyBytes <= exchanges.bodyBytesMax else { return .bodyTooLarge }
        bytesReadThisTurn += copy.bodyBytes
        switch edit.edit(inference, of: copy.rewrite.primary, body: body(of: copy)) {
        case .dropped(let reason): return reason
        case .edited(let edited):
            copy.rewrite.inference = inference
            copy.rewrite.isTranslated = edited.isTranslated
            copy.rewrite.isEdited = edited.body != nil
            copy.editedBytes = edited.body?.count ?? 0
            guard exchanges.hasRoom(for: copy.editedBytes) else { return .memoryLimit }
            exchange = InferenceExchange(edited, isCaptured: copy.isCaptured)
            return nil
        }
    }

    /// Whether an answer, whose head lies in `answerHead`, is what a model's may be: JSON, a stream
    /// of events, or an error in whatever form.
    func isModelAnswer(_ head: UnsafeRawBufferPointer) -> Bool {
        guard answerHead.status / 100 == 2 else { return true }
        guard let field = answerHead.fields.first(.contentType) else { return false }
        let value = FieldText(answerHead.fields[field].value.bytes(in: head))
        return value.hasPrefix("application/json") || value.hasPrefix("text/event-stream")
    }

    /// The copy's body in one piece.
    private func body(of copy: ShadowCopy) -> [UInt8] {
        Array(unsafeUninitializedCapacity: copy.bodyBytes) { buffer, count in
            forEachPiece(of: copy, scratch.slices, atMost: copy.bodyBytes) { piece in
                UnsafeMutableRawPointer(buffer.baseAddress! + count).copyMemory(
                    from: piece.baseAddress!, byteCount: piece.count)
                count += piece.count
            }
        }
    }

    // MARK: Captures

    /// Keeps of an answer's head, which lies in `answerHead`, what captures tell.
    func captureHead(_ slot: Int, _ head: UnsafeRawBufferPointer) {
        var lines: [UInt8] = []
        let flags = CaptureFields.read(answerHead.fields, of: head.baseAddress!) { line in
            if lines.count + line.count <= VerdictLimits.captureFieldBytesMax { lines += line }
        }
        exchanges.note(slot, fields: lines, flags: flags)
    }

    /// Keeps a piece of an answer's payload, where the judge is told of the copy.
    func capture(_ slot: Int, _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) {
        let connection = pool.connections[slot]
        guard connection.pointee.copy.isCaptured, !range.isEmpty else { return }
        exchanges.keep(
            UnsafeRawBufferPointer(rebasing: bytes[range]), slot,
            max: shadows[connection.pointee.shadow].captureBytesMax
        ) {
            let sinceNs = clock().nanoseconds(since: connection.pointee.copy.firstByte)
            return UInt32(clamping: max(1, sinceNs / 1_000))
        }
    }

    /// The answer is longer than `max_answer_bytes`.
    func tooLong(_ slot: Int) {
        guard pool.connections[slot].pointee.copy.isCaptured else { return }
        exchanges.note(slot, flags: [.isTooLong, .answerCut])
    }

    /// Tells the judge of a copy that was sent. Where its ring is full the capture is counted as
    /// dropped there.
    func pushCapture(_ slot: Int, isWhole: Bool) {
        let connection = pool.connections[slot]
        let copy = connection.pointee.copy
        guard let asked = copy.rewrite.asked else { return }
        let exchange = exchanges[slot]
        let bytesMax = shadows[connection.pointee.shadow].captureBytesMax
        var head = CaptureHead(.shadow, pair: copy.pair, dialect: asked.dialect)
        head.shadow = UInt16(truncatingIfNeeded: connection.pointee.shadow)
        head.status = UInt16(truncatingIfNeeded: connection.pointee.answer.status)
        head.firstByteUs = exchange.firstByteUs
        head.flags = exchange.flags
        if isWhole { head.flags.insert(.isWhole) }
        let isOwn = copy.rewrite.isEdited
        let requestBytes = min(isOwn ? exchange.body.count : copy.bodyBytes, bytesMax)
        if requestBytes < copy.contentBytes { head.flags.insert(.requestCut) }
        let byteCount = CaptureRecord.byteCount(
            model: exchange.model.count, losses: exchange.losses.count,
            fields: exchange.fields.count,
            request: requestBytes, answer: exchange.answer.count)
        _ = captures?.push(byteCount: byteCount) { memory in
            var writer = CaptureWriter(memory, head)
            exchange.model.withUnsafeBytes { writer.append($0, to: .model) }
            exchange.losses.withUnsafeBytes { writer.append($0, to: .losses) }
            exchange.fields.withUnsafeBytes { writer.append($0, to: .fields) }
            if isOwn {
                exchange.body.prefix(requestBytes).withUnsafeBytes {
                    writer.append($0, to: .request)
                }
            } else {
                forEachPiece(of: copy, pool.slices(slot), atMost: requestBytes) {
                    writer.append($0, to: .request)
                }
            }
            exchange.answer.withUnsafeBytes { writer.append($0, to: .answer) }
            assert(writer.count == byteCount)
        }
    }
}
