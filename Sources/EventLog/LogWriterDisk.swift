import CLinux
import CoreLoop

// The writer's half that meets the disk.
extension LogWriter {
    /// Moves on whatever can: writes lines, begins segments, has the disk synced, removes what is
    /// expired. Call it after each batch, and at least each `sync` interval.
    public func turn(_ time: LogTime) {
        collectOutcome(time)
        rotateWhenIdle(time)
        write(time)
        startJob(time)
        removeExpired(time)
        show()
    }

    /// Writes and syncs everything, waiting up to `waitMs` for the disk, and ends the thread.
    /// True where all of it is durable. The writer cannot be used any more.
    public func close(waitMs: UInt64 = 10_000) -> Bool {
        let giveUpMs = LogTime.now().monotonicMs + waitMs
        var time = LogTime.now()
        repeat {
            time = .now()
            // Not the tests' clock: this waits for the disk.
            retryAtMs = 0
            lastSyncMs = 0
            turn(time)
            if !isDirty, start == end, job == nil { break }
            if isRemoved { break }
            usleep(1_000)
        } while time.monotonicMs < giveUpMs
        let isDone = !isDirty && start == end && job == nil
        endThread()
        return isDone
    }

    /// Ends the thread, once. A segment that it was closing is closed.
    func endThread() {
        guard !isEnded else { return }
        isEnded = true
        syncer.end()
        if job?.isLast == true { fd = -1 }
    }

    // MARK: Writing

    /// Gives waiting lines to the kernel, up to the boundary of a segment.
    func write(_ time: LogTime) {
        guard fd >= 0, time.monotonicMs >= retryAtMs else { return }
        let stop = boundary?.offset ?? end
        while start < stop {
            let count = CLinux.write(fd, pending.baseAddress! + start, stop - start)
            if count < 0 {
                if lastErrno == EINTR { continue }
                return failed(time, lastErrno)
            }
            counters.add(.bytesWritten, UInt64(count))
            start += count
            isDirty = true
        }
        sequenceWritten = boundary?.sequence ?? sequence
        if start == end {
            start = 0
            end = 0
            boundary?.offset = 0
        }
    }

    /// A full disk, a quota, a fault of the medium: the lines stay, and are tried again.
    private func failed(_ time: LogTime, _ code: Int32) {
        writeFault = code
        counters.add(.writeFailures)
        retryAtMs = time.monotonicMs + Limits.retryMs
    }

    // MARK: Syncing

    private func collectOutcome(_ time: LogTime) {
        if let current = job, let code = syncer.outcome() {
            job = nil
            if code == 0 {
                counters.add(.syncs)
                sequenceDurable = current.sequence
                counters[.durableSequence].set(current.sequence)
            } else {
                // The kernel may have given the pages up: what was lost, the chain will show.
                syncFault = code
                counters.add(.syncFailures)
                if code == LogSyncer.removed { isRemoved = true }
                isDirty = true
                folderIsDirty = true
                _ = own("sync_error", time) { line in
                    line.member("error", SystemError.text(code))
                }
            }
            if current.isLast { fd = -1 }
        }
        if fd < 0, job == nil, time.monotonicMs >= retryAtMs { beginSegment(time) }
    }

    /// Opens the segment behind the boundary, the one before it being complete on the disk.
    private func beginSegment(_ time: LogTime) {
        guard let next = boundary else { return }
        do throws(SystemError) {
            fd = try folder.open(next.name, O_WRONLY | O_APPEND | O_CREAT | O_EXCL)
        } catch {
            return failed(time, error.code)
        }
        segment = next.name
        boundary = nil
        folderIsDirty = true
        nextRetentionMs = time.monotonicMs
        counters.add(.segmentsBegun)
    }

    private func startJob(_ time: LogTime) {
        guard job == nil, fd >= 0 else { return }
        let isComplete = boundary.map { start == $0.offset } ?? false
        let isDue =
            (isDirty || folderIsDirty)
            && time.monotonicMs >= lastSyncMs + UInt64(settings.syncMs)
        guard isComplete || isDue else { return }
        job = (isComplete, sequenceWritten)
        lastSyncMs = time.monotonicMs
        isDirty = false
        syncer.start(
            LogSyncer.Job(
                fd: fd, folder: folder, syncsFolder: folderIsDirty, isLast: isComplete,
                isImmutable: settings.isImmutable))
        folderIsDirty = false
    }

    // MARK: Retention

    /// Earlier segments become read-only, where a killed writer left one that is not.
    func protectEarlier(than last: SegmentName) throws(SystemError) {
        guard settings.isImmutable else { return }
        for name in try folder.segments() where name.number < last.number {
            let fd = try folder.open(name)
            defer { CLinux.close(fd) }
            if try FileState(fd).isWritable { _ = fchmod(fd, 0o440) }
        }
    }

    /// Has the log say what it is about to forget; once that is durable, removes it.
    private func removeExpired(_ time: LogTime) {
        if let current = removal {
            guard sequenceDurable >= current.sequence else { return }
            removal = nil
            for name in current.names {
                if unlink(folder.path(of: name)) == 0 { counters.add(.segmentsRemoved) }
            }
            folderIsDirty = true
            return
        }
        guard time.monotonicMs >= nextRetentionMs else { return }
        nextRetentionMs = time.monotonicMs + Limits.retentionEveryMs
        let offset = Int64(time.wallMs) - Int64(time.monotonicMs)
        let jump = offset - clockOffsetMs
        clockOffsetMs = offset
        if jump > Int64(Limits.clockJumpMsMax) {
            // Nothing is removed on the word of a clock that has just jumped ahead.
            nextRetentionMs = time.monotonicMs + EventTime.dayMs
            return
        }
        guard let names = try? folder.segments(),
            let due = try? Retention.due(folder, names, settings, wallMs: time.wallMs),
            !due.isEmpty
        else { return }
        let isTaken = own("retention", time) { line in
            // Each with its own end: a kill may come between two removals.
            line.openList("removed")
            for removal in due {
                line.open()
                line.member("segment", removal.segment.text)
                line.member("last_seq", Int(clamping: removal.lastSequence))
                line.member("last_hash", removal.lastHash.text)
                line.close()
            }
            line.closeList()
        }
        if isTaken { removal = (due.map(\.segment), sequence) }
    }
}
