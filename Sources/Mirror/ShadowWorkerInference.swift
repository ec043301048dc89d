import CoreLoop
import HTTP
import Providers

/// Copies that ask a model, at LLM shadows: read, brought into the shadow's form, and told of.
extension ShadowWorker {
    /// Makes of a copy, whose slices lie in scratch, what is sent to an LLM shadow. Why not, where
    /// nothing is; `exchange` stays nil where the copy asks no model and goes as it is.
    func prepare(
        _ copy: inout ShadowCopy, _ state: UnsafeMutablePointer<ShadowState>,
        _ exchange: inout InferenceExchange?
    ) -> DropReason? {
        guard let edit = state.pointee.edit else { return nil }
        guard copy.headBytes <= scratch.head.count else { return .invalidCopy }
        let head = piece(copy, scratch.slices, from: 0, copy.headBytes)
        guard let (inference, isPlain) = state.pointee.sanitizer.inference(head: head) else {
            return nil
        }
        guard isPlain else { return .untranslatable }
        guard copy.bodyBytes <= exchanges.bodyBytesMax else { return .bodyTooLarge }
        bytesReadThisTurn += copy.bodyBytes
        switch edit.edit(inference, body: body(of: copy)) {
        case .dropped(let reason): return reason
        case .edited(let edited):
            copy.rewrite.inference = inference
            copy.rewrite.isTranslated = edited.isTranslated
            copy.rewrite.isEdited = edited.body != nil
            copy.editedBytes = edited.body?.count ?? 0
            guard exchanges.hasRoom(for: copy.editedBytes) else { return .memoryLimit }
            exchange = InferenceExchange(
                body: edited.body ?? [], model: edited.model, isStreamed: edited.isStreamed,
                losses: edited.losses)
            return nil
        }
    }

    /// Whether an answer, whose head lies in `answerHead`, is what a model's may be: JSON, a stream
    /// of events, or an error in whatever form.
    func isModelAnswer(_ head: UnsafeRawBufferPointer) -> Bool {
        guard answerHead.status / 100 == 2 else { return true }
        guard let field = answerHead.fields.first(.contentType) else { return false }
        let value = CopyRewrite.Name(bytes: answerHead.fields[field].value.bytes(in: head))
        return value.hasPrefix("application/json") || value.hasPrefix("text/event-stream")
    }

    /// The copy's body in one piece.
    private func body(of copy: ShadowCopy) -> [UInt8] {
        let end = copy.headBytes + copy.bodyBytes
        return Array(unsafeUninitializedCapacity: copy.bodyBytes) { buffer, count in
            var offset = 0
            for index in 0..<copy.sliceCount where offset < end {
                let slice = scratch.slices[index]
                let first = max(offset, copy.headBytes)
                let last = min(offset + Int(slice.count), end)
                if first < last {
                    let source = links[copy.link].pointer(slice) + (first - offset)
                    UnsafeMutableRawPointer(buffer.baseAddress! + count).copyMemory(
                        from: source, byteCount: last - first)
                    count += last - first
                }
                offset += Int(slice.count)
            }
        }
    }
}
