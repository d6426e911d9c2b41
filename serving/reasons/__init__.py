"""Why a decision is as it is: contributions of the features, the concepts that an applicant understands, and their words."""
