// Who was in a meeting, and when, as docs/attendance.md has it. Times are Unix ms; what is null goes on.

export interface Meeting {
  meetingId: string;
  sessionId: string;
  startedAt: number;
  endedAt: number | null;
  peakParticipants: number | null;
  totalParticipants: number | null;
}

/** The answer of `GET /v1/meetings/{id}/attendance`. */
export interface Summary extends Meeting {
  /** By so much times may be wrong, because a server crashed. */
  uncertaintyMs: number;
  participants: Attendee[];
}

export interface Attendee {
  userId: string;
  userName: string;
  role: string;
  firstJoinAt: number;
  lastLeaveAt: number | null;
  connectedMs: number;
  speakingMs: number;
  cameraMs: number;
  screenMs: number;
  visits: { joinedAt: number; leftAt: number | null; reason: string | null }[];
}
